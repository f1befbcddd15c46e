"""Training beside the kernel's flow, closed forms and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, refused
from scipy.integrate import solve_ivp

import ntklib.training
from ntklib.costs import mean_square
from ntklib.filters import flow
from ntklib.tangent import tangent_kernel
from ntklib.training import hessian_norm, rescaled, train, train_flow

FLOAT = jnp.result_type(float)
INTEGRATED = 1e5 if jnp.finfo(FLOAT).bits == 64 else 20  # the integrator's tolerance
rng = np.random.default_rng(9)
X = rng.normal(size=(6, 3)).astype(FLOAT)
Y = rng.normal(size=6).astype(FLOAT)
W = rng.normal(size=3).astype(FLOAT)
COST = mean_square(Y)
TIMES = np.array([0.0, 0.5, 3.0], FLOAT)


def linear(w, x):
    return jnp.sin(x) @ w


def product(params, x):
    return params["a"] * params["b"] * x[:, 0]


PAIR = {"a": np.asarray(0.7, FLOAT), "b": np.asarray(-0.4, FLOAT)}


def test_descent_of_a_linear_network_is_a_power_of_a_matrix():
    a, rate = np.sin(X).astype(float), 0.3
    best = np.linalg.lstsq(a, Y.astype(float))[0]
    contraction = np.linalg.matrix_power(np.eye(3) - rate * a.T @ a / 6, 100)
    trained = train(linear, W, COST, X, rate=rate, steps=100)
    assert_close(trained.params, best + contraction @ (W - best), times=20)
    assert trained.costs.shape == (101,)
    assert_close(trained.costs[0], ((a @ W - Y) ** 2).sum() / 12, times=2)
    assert_close(trained.costs[-1], ((a @ trained.params - Y) ** 2).sum() / 12, times=2)


def test_no_steps_change_nothing():
    trained = train(linear, W, COST, X, rate=0.3, steps=0)
    np.testing.assert_array_equal(trained.params, W)
    assert trained.costs.shape == (1,)


def test_the_flow_of_a_linear_network_is_the_flow_of_its_kernel():
    path = train_flow(linear, W, COST, X, TIMES)
    kernel = tangent_kernel(linear, W)
    for w, t in zip(path, TIMES, strict=True):
        change = flow(kernel, X, Y - linear(W, X), t)
        assert_close(linear(w, X[:2]), linear(W, X[:2]) + change(X[:2]), times=INTEGRATED)


def test_the_flow_of_a_product_is_that_of_scipy():
    x, y = X[:, 0].astype(float), Y.astype(float)

    def change(t, p):
        error = np.mean((p[0] * p[1] * x - y) * x)
        return [-error * p[1], -error * p[0]]

    known = solve_ivp(change, (0, 3), [0.7, -0.4], "DOP853", TIMES, rtol=1e-11, atol=1e-11).y
    path = train_flow(product, PAIR, COST, X, TIMES)
    assert_close(path["a"], known[0], times=INTEGRATED)
    assert_close(path["b"], known[1], times=INTEGRATED)


def test_flows_of_many_networks_at_once_and_any_function_as_a_cost():
    starts = jnp.stack([jnp.asarray(W), jnp.asarray(2 * W)])
    cost = lambda u: jnp.mean((u - Y) ** 2) / 2  # noqa: E731
    both = jax.vmap(lambda w: train_flow(linear, w, cost, X, TIMES))(starts)
    assert_close(both[1], train_flow(linear, 2 * W, COST, X, TIMES), times=INTEGRATED)


def test_a_flow_inside_jit_knows_times_from_outside():
    times, backwards = jnp.asarray(TIMES), jnp.asarray(TIMES[::-1])
    inside = jax.jit(lambda w: train_flow(linear, w, COST, X, times))
    assert_close(inside(W), train_flow(linear, W, COST, X, TIMES), times=2)
    with pytest.raises(ValueError, match="times: expected increasing"):
        jax.jit(lambda w: train_flow(linear, w, COST, X, backwards))(W)


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    file, descend, calls = tmp_path / "training", ntklib.training._descend, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return descend(*args)

    def run(**more):
        return train(product, PAIR, COST, X, rate=0.1, steps=150, **more)

    monkeypatch.setattr(ntklib.training, "_descend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=file)
    resumed, whole = run(checkpoint=file), run()
    assert len(calls) == 2 + 2 + 3
    np.testing.assert_array_equal(resumed.costs, whole.costs)
    np.testing.assert_array_equal(resumed.params["a"], whole.params["a"])


def test_a_rescaled_network_starts_at_zero_with_a_larger_kernel():
    scaled = rescaled(product, PAIR, 5.0)
    assert_close(scaled(PAIR, X), np.zeros(6))
    kernel, larger = tangent_kernel(product, PAIR), tangent_kernel(scaled, PAIR)
    assert_close(larger(X), 25 * kernel(X), times=10)


def test_the_hessian_norm_is_the_largest_eigenvalue_by_modulus():
    root = rng.normal(size=(4, 4))
    symmetric = ((root + root.T) / 2).astype(FLOAT)

    def quadratic(w, x):
        value = w @ (jnp.asarray(symmetric) @ w) / 2
        return value * x[:, :2]

    largest = np.abs(np.linalg.eigvalsh(symmetric.astype(float))).max()
    w = np.ones(4, FLOAT)
    assert_close(hessian_norm(quadratic, w, X[:3]), np.abs(X[:3, :2]) * largest, times=20)
    assert_close(hessian_norm(linear, W, X[:2]), np.zeros(2))


def test_refusals():
    with pytest.raises(FloatingPointError, match=r"^rate: with 1e\+20 the cost has overflowed$"):
        train(linear, W, COST, X, rate=1e20, steps=50)
    with refused(ValueError, "times: expected increasing numbers ≥ 0"):
        train_flow(linear, W, COST, X, TIMES[::-1])
    with refused(ValueError, "times: expected shape (T,), got (1, 3)"):
        train_flow(linear, W, COST, X, TIMES[None])
    with refused(ValueError, "scale: expected a finite number > 0, got 0"):
        rescaled(linear, W, 0.0)
    with refused(ValueError, "steps: expected an integer ≥ 0, got -1"):
        train(linear, W, COST, X, rate=0.1, steps=-1)
    with refused(ValueError, "params: expected two numbers at least"):
        hessian_norm(linear, W[:1], X[:, :1])
