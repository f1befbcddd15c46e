"""The kernel gradient and descent along it, against parameter descent and plain iteration."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, once, refused

from ntklib import costs, filters, kernel_gradient
from ntklib.costs import Cost, cross_entropy, logistic, mean_square
from ntklib.filters import filtered, gradient_descent
from ntklib.kernel_gradient import descend, largest_stable_rate
from ntklib.matrix_kernels import Tensor
from ntklib.rkhs import RBF, Element, Gradient, Linear, Matern
from ntklib.tangent import tangent_kernel

FLOAT = jnp.result_type(float)
rng = np.random.default_rng(5)
X = rng.normal(size=(6, 2)).astype(FLOAT)
Z = rng.normal(size=(4, 2)).astype(FLOAT)
Y = rng.normal(size=(6, 2)).astype(FLOAT)
F0 = rng.normal(size=(6, 2)).astype(FLOAT)
TENSOR = Tensor(Matern(0.5), np.array([[2.0, 0.5], [0.5, 1.0]], FLOAT))
SIGNS = np.array([1, -1, 1, 1, -1, -1])


def test_the_module_offers_costs_and_filters_too():
    for module in (costs, filters):
        for name in module.__all__:
            assert getattr(kernel_gradient, name) is getattr(module, name)
            assert name in kernel_gradient.__all__
    assert all(hasattr(kernel_gradient, name) for name in kernel_gradient.__all__)


# The kernel gradient


@pytest.mark.parametrize(
    ("kernel", "d"), [(Matern(0.5), Y[:, 0]), (Matern(0.5), Y), (TENSOR, Y)], ids=["1", "2", "K"]
)
def test_the_kernel_gradient_is_the_mean_of_sections(kernel, d):
    g = kernel_gradient.kernel_gradient(kernel, X, d)
    gram = np.asarray(kernel(Z, X), "float64")
    subscripts = "ij,j...->i..." if gram.ndim == 2 else "ijab,jb->ia"
    assert_close(g(Z), np.einsum(subscripts, gram, d) / 6, times=10)


@pytest.mark.parametrize("kernel", [Matern(0.5), TENSOR], ids=["scalar", "matrix"])
def test_the_kernel_gradient_represents_the_derivative(kernel):
    # ⟨∇_K C, h⟩_H = ∂C|_f (h) for every h in the space, by automatic differentiation.
    cost = cross_entropy([0, 1, 1, 0, 1, 0])
    f = Element(kernel, X, Y)
    gradient = kernel_gradient.kernel_gradient(kernel, X, cost.derivative(f(X)))
    for seed in range(3):
        draw = np.random.default_rng(seed)
        h = Element(kernel, Z, draw.normal(size=(4, 2)).astype(FLOAT))
        slope = jax.jvp(cost, (f(X),), (h(X),))[1]
        assert_close(gradient.inner(h), slope, times=30)


def test_the_kernel_gradient_of_the_linear_kernel_is_the_gradient_in_the_weights():
    w = jnp.array([0.3, -1.2], FLOAT)
    cost = logistic(SIGNS)
    slope = jax.grad(lambda w: cost(jnp.asarray(X) @ w))(w)
    g = kernel_gradient.kernel_gradient(Linear(), X, cost.derivative(X @ w))
    assert_close(g(Z), Z @ slope, times=10)


# Descent

CASES = {
    "mean square": (Matern(0.5), mean_square(Y), F0),
    "one output": (Matern(0.5), mean_square(Y[:, 0]), F0[:, 0]),
    "logistic": (RBF(), logistic(SIGNS), F0[:, 0]),
    "cross-entropy": (Matern(0.5), cross_entropy([0, 1, 1, 0, 1, 0]), F0),
    "matrix-valued": (TENSOR, mean_square(Y), F0),
    "gradient kernel": (Gradient(RBF()), logistic(np.stack([SIGNS, -SIGNS], 1)), F0),
    "any cost": (Matern(0.5), Cost(lambda u: jnp.mean(jnp.cosh(u))), F0[:, 0]),
}
every_case = pytest.mark.parametrize(("kernel", "cost", "start"), CASES.values(), ids=CASES)


def by_hand(kernel, cost, start, rate, steps):
    """The definition, function by function: f ← f − rate · ∇_K C|_f."""
    values, found = [np.asarray(start)], [cost(start)]
    alpha = np.zeros_like(start)
    for _ in range(steps):
        alpha = alpha - rate / 6 * np.asarray(cost.derivative(values[-1]))
        values.append(start + np.asarray(Element(kernel, X, alpha)(X)))
        found.append(cost(values[-1]))
    return alpha, values[-1], found


@every_case
@pytest.mark.parametrize("tile", [None, 1, 4, 6, 100])
def test_descent_is_its_definition(kernel, cost, start, tile):
    alpha, values, found = by_hand(kernel, cost, start, 0.7, 5)
    done = descend(kernel, cost, X, start, rate=0.7, steps=5, tile=tile)
    assert_close(done.change.coefficients, alpha, times=30)
    assert_close(done.values, values, times=30)
    assert_close(done.costs, found, times=30)
    np.testing.assert_array_equal(done.change.centres, X)
    assert_close(start + done.change(X), done.values, times=30)


def test_descent_in_the_space_of_a_linear_model_is_descent_in_its_weights():
    cost, w = logistic(SIGNS), jnp.array([0.3, -1.2], FLOAT)
    done = descend(Linear(), cost, X, lambda x: x @ w, rate=0.5, steps=20)
    for _ in range(20):
        w = w - 0.5 * jax.grad(lambda w: cost(jnp.asarray(X) @ w))(w)
    assert_close(done.values, X @ w, times=30)


def test_descent_with_the_tangent_kernel_is_one_step_of_a_linear_model_with_outputs():
    def apply(params, x):
        return x @ params["w"] + params["b"][None]

    params = {
        "w": rng.normal(size=(2, 3)).astype(FLOAT),
        "b": rng.normal(size=3).astype(FLOAT),
    }
    cost = cross_entropy([0, 2, 1, 1, 0, 2])
    kernel = tangent_kernel(apply, params)
    done = descend(kernel, cost, X, lambda x: apply(params, x), rate=0.3, steps=12)
    for _ in range(12):
        slope = jax.grad(lambda p: cost(apply(p, jnp.asarray(X))))(params)
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, slope)
    assert_close(done.values, apply(params, X), times=30)


def test_descent_on_the_mean_square_is_its_filter():
    rate = 0.9 * largest_stable_rate(TENSOR, X)
    done = descend(TENSOR, mean_square(Y), X, F0, rate=rate, steps=40)
    f = filtered(TENSOR, X, Y - F0, gradient_descent(rate, 40))
    assert_close(done.change(Z), f(Z), times=100)


def test_many_blocks_are_one_descent(monkeypatch):
    case = CASES["matrix-valued"]
    whole = descend(*case[:2], X, case[2], rate=0.4, steps=23)
    monkeypatch.setattr(kernel_gradient, "BLOCK", 4 * 144)
    pieces = descend(*case[:2], X, case[2], rate=0.4, steps=23)
    assert_close(pieces.values, whole.values)
    assert pieces.costs.shape == (24,)
    assert_close(pieces.costs, whole.costs)


def test_no_steps_change_nothing():
    done = descend(Matern(), mean_square(Y), X, F0, rate=1.0, steps=0)
    np.testing.assert_array_equal(done.values, F0)
    assert (done.change.coefficients == 0).all()
    assert_close(done.costs, [mean_square(Y)(F0)])


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
def test_dtype_is_kept(dtype):
    for tile in (None, 4):
        done = descend(
            Matern(0.5),
            mean_square(Y.astype(dtype)),
            X.astype(dtype),
            F0.astype(dtype),
            rate=0.3,
            steps=3,
            tile=tile,
        )
        for array in (done.change.coefficients, done.values, done.costs):
            assert array.dtype == dtype


# The largest stable rate


@pytest.mark.parametrize(
    ("kernel", "m"), [(Matern(0.5), 1), (TENSOR, 2), (Linear(), 1)], ids=["1", "K", "singular"]
)
def test_the_largest_stable_rate_is_that_of_the_largest_eigenvalue(kernel, m):
    gram = np.asarray(kernel(X), "float64").reshape(6, 6, m, m)
    gram = gram.transpose(0, 2, 1, 3).reshape(6 * m, 6 * m)
    rate = largest_stable_rate(kernel, X)
    np.testing.assert_allclose(rate, 12 / np.linalg.eigvalsh(gram)[-1], rtol=1e-5)
    np.testing.assert_allclose(largest_stable_rate(kernel, X, 0.25), 4 * rate, rtol=1e-6)


def test_one_point_alone_has_a_stable_rate():
    assert_close(np.asarray(largest_stable_rate(2.0 * RBF(), X[:1]), FLOAT), 1.0)


@pytest.mark.parametrize(("factor", "stable"), [(0.99, True), (1.01, False)])
def test_beyond_the_largest_stable_rate_the_mean_square_grows(factor, stable):
    rate = factor * largest_stable_rate(Matern(0.5), X)
    found = descend(Matern(0.5), mean_square(Y), X, F0, rate=rate, steps=400).costs
    assert (found[-1] < found[0]) == stable
    assert (np.diff(found) <= 1e-6).all() == stable


@pytest.mark.parametrize("tile", [None, 4])
def test_an_overflow_is_told(tile):
    with pytest.raises(FloatingPointError, match=r"^rate: with 1000 the cost has overflowed after"):
        descend(Matern(0.5), mean_square(Y), X, F0, rate=1e3, steps=2000, tile=tile)


# Interruption

LONG = textwrap.dedent(
    """
    import signal
    import sys
    import numpy as np
    from ntklib import kernel_gradient
    from ntklib.kernel_gradient import cross_entropy, descend
    from ntklib.rkhs import Matern

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & turns it off
    kernel_gradient.BLOCK = 1  # a step, then a save
    x = np.random.default_rng(0).normal(size=(30, 2)).astype("float32")
    cost = cross_entropy(np.arange(30) % 10)
    start = np.zeros((30, 10), "float32")
    arguments = dict(rate=0.3, steps=int(sys.argv[2]))
    done = descend(Matern(), cost, x, start, checkpoint=sys.argv[1], progress=True, **arguments)
    whole = descend(Matern(), cost, x, start, **arguments)
    assert np.array_equal(done.change.coefficients, whole.change.coefficients)
    assert np.array_equal(done.costs, whole.costs)
    print("finished")
    """
)


def start_long(path, steps):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", LONG, str(path), str(steps)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@once
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_descent_goes_on(tmp_path, end):
    path, steps = tmp_path / "descent.npz", 1000
    with start_long(path, steps) as interrupted:
        deadline = time.monotonic() + 120
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        interrupted.send_signal(end)
        assert interrupted.wait(60) != 0
        told = interrupted.stderr.read()
    assert "descend, blocks of 1 steps" in told
    with start_long(path, steps) as resumed:
        said, told = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, told
    assert said == "finished\n"
    reached = int(re.search(rf"(\d+)/{steps} ", told)[1])
    assert 0 < reached < steps


def test_a_finished_descent_is_not_begun_again(tmp_path, monkeypatch):
    path = tmp_path / "descent.npz"
    arguments = {"rate": 0.3, "steps": 5, "checkpoint": path}
    first = descend(Matern(), mean_square(Y), X, F0, **arguments)
    monkeypatch.setattr(kernel_gradient, "_advance", lambda *_, **__: pytest.fail("a step"))
    again = descend(Matern(), mean_square(Y), X, F0, **arguments)
    np.testing.assert_array_equal(again.change.coefficients, first.change.coefficients)
    np.testing.assert_array_equal(again.values, first.values)
    np.testing.assert_array_equal(again.costs, first.costs)


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": Matern(0.9)},
        {"cost": mean_square(2 * Y)},
        {"x": X + 1},
        {"start": 2 * F0},
        {"rate": 0.31},
        {"steps": 6},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_checkpoint_of_another_descent_is_refused(tmp_path, change):
    path = tmp_path / "descent.npz"
    arguments = {
        "kernel": Matern(),
        "cost": mean_square(Y),
        "x": X,
        "start": F0,
        "rate": 0.3,
        "steps": 5,
        "checkpoint": path,
    }
    descend(**arguments)
    with pytest.raises(ValueError, match="the checkpoint of another computation"):
        descend(**{**arguments, **change})


def test_progress_is_silent_unless_asked_for(capfd):
    descend(Matern(), mean_square(Y), X, F0, rate=0.3, steps=5)
    assert capfd.readouterr() == ("", "")


# Arguments


def test_arguments_are_checked():
    cost, good = mean_square(Y), {"rate": 0.1, "steps": 2}
    with refused(ValueError, "start: expected shape (6,) or (6, m), got (5, 2)"):
        descend(Matern(), cost, X, F0[:5], **good)
    with refused(ValueError, "values: expected shape (6, 2), got (6,)"):
        descend(Matern(), cost, X, F0[:, 0], **good)
    with refused(ValueError, "start: expected shape (6, 2), got (6, 1)"):
        descend(TENSOR, mean_square(Y[:, :1]), X, F0[:, :1], **good)
    with refused(ValueError, "start: 12 of 12 entries are NaN or infinite"):
        descend(Matern(), cost, X, np.nan * F0, **good)
    with refused(ValueError, "rate: expected a finite number > 0, got 0"):
        descend(Matern(), cost, X, F0, rate=0, steps=2)
    with refused(ValueError, "steps: expected an integer ≥ 0, got -1"):
        descend(Matern(), cost, X, F0, rate=0.1, steps=-1)
    with refused(TypeError, "steps: expected an integer, got 2.0"):
        descend(Matern(), cost, X, F0, rate=0.1, steps=2.0)
    with refused(ValueError, "size: expected an integer ≥ 1, got 0"):
        descend(Matern(), cost, X, F0, tile=0, **good)
    with refused(TypeError, "kernel: expected a function k(x1, x2), got 'rbf'"):
        descend("rbf", cost, X, F0, **good)
    with refused(ValueError, "d: expected shape (6,) or (6, m), got (4, 2)"):
        kernel_gradient.kernel_gradient(Matern(), X, Y[:4])
    told = "curvature: this cost does not say it; expected a bound, a number > 0"
    with refused(ValueError, told):
        largest_stable_rate(Matern(), X, Cost(jnp.sum).curvature)
    with refused(ValueError, "kernel: k(x, x) is zero, so no rate is unstable"):
        largest_stable_rate(Linear(), np.zeros((3, 2), FLOAT))
    with pytest.raises(ValueError, match=r"^kernel\(x\): expected a symmetric matrix"):
        largest_stable_rate(lambda a, b: a @ (b + 1).T, X)
