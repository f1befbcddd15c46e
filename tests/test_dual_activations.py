"""Dual activations against quadrature, 50 digits and autodiff."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from scipy import integrate, special

from ntklib.dual_activations import abs_, erf, identity, leaky_relu, piecewise_linear, relu

FLOAT = jnp.result_type(float)
# (φ, φ', where they have a kink), written apart from the library.
FUNCTIONS = {
    "relu": (relu, lambda x: np.maximum(x, 0), lambda x: x > 0),
    "leaky": (
        leaky_relu(0.1),
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda x: 0.1 + 0.9 * (x > 0),
    ),
    "bent": (
        piecewise_linear(-0.5, 2.0),
        lambda x: np.where(x > 0, 2 * x, -0.5 * x),
        lambda x: -0.5 + 2.5 * (x > 0),
    ),
    "abs": (abs_, np.abs, np.sign),
    "identity": (identity, lambda x: x, lambda x: 1.0 + 0 * x),
    "erf": (erf, special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
}
PAIRS = [(1.0, 1.0, 0.3), (1.0, 1.0, -0.9), (0.5, 2.0, 0.75), (3.0, 0.25, -0.5), (2.0, 1.0, 0.0)]


def expectation(phi, q1, q2, c):
    """E[φ(u)φ(v)] in polar coordinates, where a kink at 0 is a kink in the angle alone."""
    theta = np.arccos(c / np.sqrt(q1 * q2))

    def over_radius(angle):
        def integrand(r):
            u, v = np.sqrt(q1) * r * np.cos(angle), np.sqrt(q2) * r * np.cos(angle - theta)
            return phi(u) * phi(v) * r * np.exp(-(r**2) / 2) / (2 * np.pi)

        return integrate.quad(integrand, 0, 12, epsabs=1e-14, epsrel=1e-13)[0]

    kinks = np.sort(
        np.mod([np.pi / 2, -np.pi / 2, theta + np.pi / 2, theta - np.pi / 2], 2 * np.pi)
    )
    ends = [0, *kinks, 2 * np.pi]
    return sum(
        integrate.quad(over_radius, a, b, epsabs=1e-14, epsrel=1e-13)[0]
        for a, b in itertools.pairwise(ends)
        if b > a
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_duals_are_expectations(name):
    activation, phi, derivative = FUNCTIONS[name]
    for q1, q2, c in PAIRS:
        at = [jnp.asarray(v, FLOAT) for v in (q1, q2, c)]
        assert_close(activation.dual(*at), expectation(phi, q1, q2, c))
        assert_close(activation.dual_derivative(*at), expectation(derivative, q1, q2, c))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_itself(name):
    activation, phi, derivative = FUNCTIONS[name]
    x = np.linspace(-3, 3, 7).astype(FLOAT)
    assert_close(activation.fn(jnp.asarray(x)), phi(x), times=10)
    x = x[x != 0]
    assert_close(jax.vmap(jax.grad(activation.fn))(jnp.asarray(x)), derivative(x) + 0 * x, times=10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_derivative_of_the_dual_is_the_dual_of_the_derivative(name):
    activation = FUNCTIONS[name][0]
    for q1, q2, c in [*PAIRS, (1.0, 1.0, 1.0), (1.0, 4.0, -2.0), (1.0, 4.0, 2.0)]:
        at = [jnp.asarray(v, FLOAT) for v in (q1, q2, c)]
        assert_close(jax.grad(activation.dual, 2)(*at), activation.dual_derivative(*at), times=10)
