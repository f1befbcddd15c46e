"""Tangent kernels against finite differences, formulas and other libraries' networks."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, refused

from ntklib.tangent import linearize, tangent_kernel, taylor

FLOAT = jnp.result_type(float)
rng = np.random.default_rng(5)
X = rng.normal(size=(5, 3)).astype(FLOAT)
Z = rng.normal(size=(4, 3)).astype(FLOAT)
PARAMS = {
    "first": (rng.normal(size=(3, 6)).astype(FLOAT), rng.normal(size=6).astype(FLOAT)),
    "second": rng.normal(size=(6, 2)).astype(FLOAT),
}


def network(params, x):
    weight, bias = params["first"]
    return jnp.tanh(x @ weight + bias[None]) @ params["second"]


def first_output(params, x):
    return network(params, x)[:, 0]


def by_hand(x1, x2):
    """Θ of `network`: h hᵀ and ((φ' v_a) (φ' v_b)ᵀ)(x xᵀ + 1), all in NumPy."""
    (weight, bias), second = PARAMS["first"], PARAMS["second"]
    h1, h2 = np.tanh(x1 @ weight + bias), np.tanh(x2 @ weight + bias)
    back1 = (1 - h1**2)[:, None] * second.T
    back2 = (1 - h2**2)[:, None] * second.T
    first = np.einsum("iah,jbh->ijab", back1, back2) * (x1 @ x2.T + 1)[:, :, None, None]
    return first + (h1 @ h2.T)[:, :, None, None] * np.eye(2)


def test_the_full_kernel_of_a_network_is_the_formula():
    kernel = tangent_kernel(network, PARAMS)
    assert_close(kernel(X, Z), by_hand(X, Z), times=10)
    assert_close(kernel(X), by_hand(X, X), times=10)


def test_trace_and_diagonal_are_taken_of_the_full_kernel():
    full = by_hand(X, Z)
    trace = tangent_kernel(network, PARAMS, outputs="trace")(X, Z)
    assert_close(trace, np.trace(full, axis1=2, axis2=3) / 2, times=10)
    diagonal = tangent_kernel(network, PARAMS, outputs="diagonal")(X, Z)
    assert_close(diagonal, np.diagonal(full, axis1=2, axis2=3), times=10)


@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
def test_one_output_without_axis_has_a_scalar_kernel(outputs):
    kernel = tangent_kernel(first_output, PARAMS, outputs=outputs)
    assert_close(kernel(X, Z), by_hand(X, Z)[:, :, 0, 0], times=10)


def test_the_linearisation_is_exact_for_a_network_linear_in_its_parameters():
    def linear(w, x):
        return jnp.sin(x) @ w

    w0, w1 = X[:3], Z[:3]
    assert_close(linearize(linear, w0)(w1, X), np.sin(X) @ w1)


def test_taylor_of_an_exponential_is_its_series():
    def grow(scale, x):
        return jnp.exp(scale * x[:, 0])

    base, step = jnp.asarray(0.5, FLOAT), jnp.asarray(0.8, FLOAT)
    x = X[:, 0]
    for order, tail in [
        (0, 0 * x),
        (1, x * 0.3),
        (3, x * 0.3 + (x * 0.3) ** 2 / 2 + (x * 0.3) ** 3 / 6),
    ]:
        assert_close(taylor(grow, base, order)(step, X), np.exp(0.5 * x) * (1 + tail), times=2)


def test_refusals_name_the_argument():
    with refused(TypeError, "apply: expected a function apply(params, x), got 3"):
        tangent_kernel(3, PARAMS)
    with refused(ValueError, "outputs: expected one of full, trace, diagonal, got 'mean'"):
        tangent_kernel(network, PARAMS, outputs="mean")
    with refused(ValueError, "params: expected at least one array"):
        tangent_kernel(network, ())
    with refused(TypeError, "params['n']: expected float32 or float64, got int64"):
        tangent_kernel(network, {"n": np.ones(2, np.int64)})
    with refused(ValueError, "apply(params, x): expected shape (5, m) or (5,), got (5, 3, 1)"):
        tangent_kernel(lambda w, x: w * x[:, :, None], jnp.ones((1, 1, 1), FLOAT))(X)
    with refused(ValueError, "order: expected an integer ≥ 0, got -1"):
        taylor(network, PARAMS, -1)
