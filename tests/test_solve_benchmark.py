"""A hundredth of the run on a million points: the script of the benchmark on its first 10,000."""

import importlib.util
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("solving", ROOT / "benchmarks" / "solve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(jnp.result_type(float) == jnp.float64, reason="the script works in float32")
def test_a_hundredth_of_the_run(benchmark):
    found = benchmark.sized(10_001, [1.0], rank=800)
    stored = json.loads((ROOT / "chapters" / "data" / "solve.json").read_text("utf-8"))["10000"]
    assert found["method"] == "falkon"
    assert found["converged"]
    assert found["error"] < found["error of the linear model"] / 2
    # Cholesky's method on all points is the best that inducing points can do, or nearly.
    assert abs(found["error"] - stored["error"]) < 0.03
    assert abs(found["error of the linear model"] - stored["error of the linear model"]) < 1e-3


def test_the_first_examples_of_a_longer_list(benchmark):
    x, y = benchmark.examples(3000)
    longer, values = benchmark.examples(5000)
    np.testing.assert_array_equal(longer[:3000], x)
    np.testing.assert_array_equal(values[:3000], y)
    assert len(np.unique(longer, axis=0)) == 5000
    assert abs((y - benchmark.teacher(x)).std() - 0.5) < 0.03
