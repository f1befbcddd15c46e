"""A hundredth of the million-example run: the same script on its first 10,000 examples."""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
# Half of the features in one of the two runs of the tests, an eighth in the other, fast one.
FEATURES = 512 if jnp.result_type(float) == jnp.float64 else 2048


@pytest.fixture(scope="module")
def million():
    spec = importlib.util.spec_from_file_location("million", ROOT / "benchmarks" / "million.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_hundredth_of_the_run(million, capfd):
    found = million.streamed((10_000,), FEATURES)
    stored = json.loads((ROOT / "chapters" / "data" / "million.json").read_text("utf-8"))
    learned, linear = (found[name]["10000"]["error"] for name in ("features", "linear"))
    expected = {name: stored["streamed"][name]["10000"]["error"] for name in found}
    assert abs(linear - expected["linear"]) < 1e-4
    assert learned < linear / 3
    assert abs(learned - expected["features"]) < 0.03
    assert "5/5" in capfd.readouterr().err


def test_no_two_examples_are_equal(million):
    data = million.examples(10_000)
    x, y = million.together(data)
    assert x.shape == (10_000, 10)
    assert y.shape == (10_000,)
    assert len(np.unique(x, axis=0)) == 10_000
    np.testing.assert_array_equal(million.together(data[2:4])[0], x[4000:8000])
    np.testing.assert_array_equal(data[3][0], data[3][0])
    others = million.together(million.examples(10_000, seed=1))[0]
    assert len(np.unique(np.concatenate([x, others]), axis=0)) == 20_000


def test_the_teacher_is_friedmans_function(million):
    x, y = million.together(million.examples(100_000))
    noise = y - np.asarray(million.teacher(x))
    assert abs(noise.std() - 0.5) < 0.01
    assert abs(np.asarray(million.teacher(x)).mean()) < 0.01
    assert abs(np.asarray(million.teacher(x)).std() - 1) < 0.01
    one = jnp.full((1, 10), 0.2, jnp.float32)
    u = 0.6
    known = 10 * np.sin(np.pi * u * u) + 20 * (u - 0.5) ** 2 + 15 * u
    np.testing.assert_allclose(million.teacher(one), (known - 14.4) / 4.88, rtol=1e-5)
    irrelevant = jax.grad(lambda p: million.teacher(p)[0])(one)[0, 5:]
    np.testing.assert_array_equal(irrelevant, np.zeros(5))
