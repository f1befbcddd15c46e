"""The stored comparison with 50 digits: its figures, and a part of it again."""

import importlib.util
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
CASES = json.loads((ROOT / "chapters" / "data" / "accuracy.json").read_text("utf-8"))["cases"]
DTYPE = jnp.result_type(float).name


def benchmark():
    path = ROOT / "benchmarks" / "accuracy.py"
    spec = importlib.util.spec_from_file_location("accuracy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stored_figures():
    assert len(CASES) == 11
    for case in CASES:
        assert case["ntklib float64"] < 1e-13
        assert case["ntklib float32 diagonal"] < 5 * np.finfo(np.float32).eps
        assert case["ntklib float32"] < 5 * np.finfo(np.float32).eps * max(case["hidden"], 1)


@pytest.mark.parametrize("which", [1, 6])
def test_a_part_again(which):
    script = benchmark()
    exact = script.exact_limits()
    case, stored = script.cases(exact)[which], CASES[which]
    assert (case.name, case.hidden) == (stored["activation"], stored["hidden"])
    x = script.hard_points(DTYPE)[:7]
    pairs = [
        [exact.network([case.moments] * case.hidden, case.w, case.b, p, q)[1] for q in x] for p in x
    ]
    for name, made in (("ntklib", script.library), ("covariances", script.plain)):
        network = case.activation, x, case.hidden, case.w, case.b
        found = script.errors(made(*network), pairs, exact.mpf).max()
        assert found < 10 * stored[f"{name} {DTYPE}"]
        if case.name == "ReLU" and name == "covariances":
            assert found > stored[f"{name} {DTYPE}"] / 100
