"""The guide for programs written for neural-tangents: every right side runs, with its numbers."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, once

from ntklib import deep_ntk

pytestmark = once

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "chapters" / "from-neural-tangents.md").read_text("utf-8")
REFERENCE = ROOT / "tests" / "reference" / "predict_cases"
ARRAYS = dict(np.load(REFERENCE.with_suffix(".npz")))
TOLERANCES = {
    name: tolerance
    for case in json.loads(REFERENCE.with_suffix(".json").read_text("utf-8"))["cases"].values()
    for name, tolerance in case["suggested_tol"].items()
}
FLOAT = jnp.result_type(float)
EPS = float(np.finfo(FLOAT).eps)

# The inputs of the stored numbers.
i, j = np.arange(8.0)[:, None], np.arange(5.0)[None]
X, T = np.sin(1.3 * i + 0.7 * j + 0.3 * i * j), np.cos(0.9 * i + 1.1 * j + 0.2 * i * j)[:4]
Y, F0 = np.cos(i + 0.5 * j)[:, :2], (0.3 * np.sin(0.4 * i + 0.9 * j))[:, :2]
F0_TEST = (0.3 * np.cos(0.5 * i + 0.8 * j))[:4, :2]

# The rows whose result is stored, by their left side, and the names of the stored arrays.
ENSEMBLE = "gdmse_ensemble_ntk_reg0"
STORED = {
    'kernel_fn(x_train, None, "nngp")': ["pred_kernels/nngp_dd"],
    'kernel_fn(x_test, x_train, "ntk")': ["pred_kernels/ntk_td"],
    "kernel_fn(x_train).ntk": ["pred_kernels/ntk_dd"],
    'nt.batch(kernel_fn, 4)(x_train, None, "ntk")': ["pred_kernels/ntk_dd"],
    "nt.batch(kernel_fn, 4, store_on_device=False)": ["pred_kernels/ntk_dd"],
    "predict_fn(10.0, f0_train, f0_test, k_test)[1]": ["gdmse_reg0_lr1.0/test_t10.0"],
    "predict_fn(None, f0_train, f0_test, k_test)[1]": ["gdmse_reg0_lr1.0/test_tNone"],
    "the same with diag_reg=1e-3, t=None": ["gdmse_reg1e-3_lr1.0/test_tNone"],
    "the same with diag_reg=1e-3, t=10.0": ["gdmse_reg1e-3_lr1.0/test_t10.0"],
    "nt.predict.gradient_descent(loss, k_train, y_train, 0.5)(20.0, f0_train, f0_test, k_test)": [
        "gd_ode_mse_momNone/test_t20.0"
    ],
    'predict_fn(None, x_test, "ntk", compute_cov=True)': [
        f"{ENSEMBLE}/mean_tNone",
        f"{ENSEMBLE}/cov_tNone",
    ],
    'predict_fn(10.0, x_test, "ntk", compute_cov=True)': [
        f"{ENSEMBLE}/mean_t10.0",
        f"{ENSEMBLE}/cov_t10.0",
    ],
    'nt.predict.gp_inference(k_train, y_train, diag_reg=1e-3)("ntk", k_test, k_test_test)': [
        "gp_inference_reg1e-3/ntk_mean",
        "gp_inference_reg1e-3/ntk_cov",
    ],
    'the same with "ntkgp"': ["gp_inference_reg1e-3/ntkgp_mean", "gp_inference_reg1e-3/ntkgp_cov"],
    'the same with "nngp"': ["gp_inference_reg1e-3/nngp_mean", "gp_inference_reg1e-3/nngp_cov"],
    "nt.predict.max_learning_rate(k_train, y_train.size)": ["max_learning_rate/lr"],
}


def erf_mean(c, q1, q2):
    return 2 / jnp.pi * jnp.arcsin(2 * c / jnp.sqrt((1 + 2 * q1) * (1 + 2 * q2)))


def rows():
    """(left side without marks, code spans of the right side), in their order."""
    for line in PAGE.splitlines():
        if line.startswith("| ") and "neural_tangents` |" not in line:
            left, right = line.strip("| ").split(" | ")
            yield left.replace("`", ""), re.findall(r"`([^`]+)`", right)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The page's code, run from its first line to its last: the values of each row."""
    arrays = {"x_train": X, "x_test": T, "y_train": Y, "f0_train": F0, "f0_test": F0_TEST}
    names = {name: jnp.asarray(array, FLOAT) for name, array in arrays.items()}
    # What the page takes for granted.
    names |= {
        "key": jax.random.key(0),
        "file": tmp_path_factory.mktemp("gram") / "ntk.zarr",
        "fn": jax.scipy.special.erf,
        "nngp_fn": erf_mean,
        "d_nngp_fn": jax.grad(erf_mean),
    }
    found, blocks = {}, re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(blocks.pop(0), names)
    net = names["net"]
    names["f"], names["block"] = net.apply, deep_ntk.serial(deep_ntk.Relu(), deep_ntk.Dense(5))
    names["v"] = jnp.cos(names["y_train"][:4])
    for left, codes in rows():
        if left.startswith("predict_fn = nt.predict.gradient_descent_mse(k"):
            exec(blocks.pop(0), names)
        values = []
        for code in codes:
            if re.match(r"[\w, ]+ = ", code):
                exec(code, names)
            else:
                values.append(eval(code, names))
        found[left] = values
        if "params" in names and "moved" not in names:
            names["moved"] = jax.tree.map(lambda p: p + 2e-3 * jnp.cos(p), names["params"])
    assert not blocks
    return found, names


def test_every_row_runs(results):
    found, _ = results
    assert len(found) == len(list(rows())) > 40
    for left, values in found.items():
        for value in values:
            if isinstance(value, deep_ntk.Layer):
                continue
            assert np.isfinite(np.asarray(value)).all(), left


@pytest.mark.parametrize("left", STORED)
def test_the_numbers_are_those_of_neural_tangents(results, left):
    values, names = results[0][left], STORED[left]
    assert len(values) == len(names)
    for value, name in zip(values, names, strict=True):
        wanted = ARRAYS[name]
        wanted = wanted.ravel()[0] if name == "max_learning_rate/lr" else wanted
        # Covariances at the end of training are small differences of large ones.
        size = np.abs(ARRAYS["pred_kernels/nngp_dd"]).max() if "_cov" in name else 0.0
        size = max(size, np.abs(wanted).max())
        # The diagonal of the stored kernels is right to 1e-8 only, which a solve amplifies.
        tolerance = max(10 * TOLERANCES[name], 1e-6, 3e4 * EPS)
        assert np.abs(np.asarray(value) - wanted).max() <= tolerance * size, name


def test_layers_are_all_there_and_have_kernels(results):
    found, names = results
    layers = [v for values in found.values() for v in values if isinstance(v, deep_ntk.Layer)]
    assert len(layers) > 25
    shown = set(re.findall(r"stax\.(\w+)", PAGE))
    ours = {"Activate", "Limit", "Layer", "State"}
    assert shown == set(deep_ntk.__all__) - ours
    # The kernels of activations are tested with them; here what is put together.
    dense, x = deep_ntk.Dense(5, 1.5, 0.1), names["x_train"]
    for left, values in found.items():
        branches = [values] if left.startswith("stax.FanOut") else [[v] for v in values]
        for branch in branches:
            if isinstance(branch[0], deep_ntk.Layer):
                whole = deep_ntk.serial(dense, *branch)
                _, params = deep_ntk.serial(dense, branch[0]).init(names["key"], (5,))
                out = deep_ntk.serial(dense, branch[0]).apply(params, x)
                assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out)), left
                if re.search("Elementwise|LayerNorm|FanOut|standard|kinks", left):
                    gram = np.asarray(whole.nngp(x), float)
                    assert np.linalg.eigvalsh(gram)[0] > -1e-4 * np.abs(gram).max(), left


def test_finite_networks_by_hand(results):
    found, names = results
    f, params, x, t = (names[name] for name in ("f", "params", "x_train", "x_test"))
    jacobians = [
        jnp.concatenate(
            [
                a.reshape(len(points), 2, -1)
                for a in jax.tree.leaves(jax.jacobian(lambda p, z=points: f(p, z))(params))
            ],
            axis=2,
        )
        for points in (x, t)
    ]
    full = jnp.einsum("iap,jbp->ijab", *jacobians)
    rows_ = {left: values[0] for left, values in found.items() if "empirical" in left}
    call = "(x_train, x_test, params)"
    trace = rows_["nt.empirical_ntk_fn(f)" + call]
    assert_close(trace, jnp.einsum("ijaa->ij", full) / 2, times=100)
    assert_close(rows_["nt.empirical_ntk_fn(f, trace_axes=())" + call], full, times=100)
    diagonal = rows_["nt.empirical_ntk_fn(f, trace_axes=(), diagonal_axes=(-1,))" + call]
    assert_close(diagonal, jnp.einsum("ijaa->ija", full), times=100)
    product = rows_["nt.empirical_ntk_vp_fn(f, x_train, x_test, params)(v)"]
    assert_close(product, jnp.einsum("ijab,jb->ia", full, names["v"]), times=100)
    change = sum(
        jnp.vdot(tangent, moved - p)
        for tangent, moved, p in zip(
            jax.tree.leaves(jax.grad(lambda p: f(p, x)[0, 0])(params)),
            jax.tree.leaves(names["moved"]),
            jax.tree.leaves(params),
            strict=True,
        )
    )
    lin = found["nt.linearize(f, params)(moved, x_train)"][0]
    assert_close(lin[0, 0] - f(params, x)[0, 0], change, times=100)
    square = found["nt.taylor_expand(f, params, 2)(moved, x_train)"][0]
    true = f(names["moved"], x)
    assert np.abs(square - true).max() < np.abs(lin - true).max() < np.abs(true).max()


def test_times_with_momentum(results):
    # Heavy ball as a neural-tangents user states it: rate 0.5 on the cost divided by N m.
    found, names = results
    gram = np.asarray(names["net"].ntk(names["x_train"]), float)
    moving = np.asarray(found["the same with momentum=0.9"][0] - names["f0_test"])
    # The continuous limit: rate h²·0.5 and momentum 1 − h·0.1 for 20/h steps, h = 0.01.
    rate, momentum = 0.5e-4, 1 - 0.1e-2
    change, speed = np.zeros_like(F0), 0.0
    for _ in range(2000):
        force = -(F0 + gram @ change - Y) / Y.size
        speed = momentum * speed + rate * force
        change = change + speed
    cross = np.asarray(names["net"].ntk(names["x_test"], names["x_train"]), float)
    assert np.abs(moving - cross @ change).max() < 0.02 * np.abs(moving).max()
