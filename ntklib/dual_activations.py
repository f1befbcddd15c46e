"""Dual activations: E[φ(u)φ(v)] for centred Gaussians u, v, in closed form.

Everywhere (u, v) ~ N(0, [[q1, c], [c, q2]]). No factor is put in front: the dual of ReLU at
q1 = q2 = c = 1 is E[relu(u)²] = 1/2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erf as _erf

from ntklib import _check
from ntklib.angle import correlation, kappa0, kappa1

__all__ = ["Activation", "abs_", "erf", "identity", "leaky_relu", "piecewise_linear", "relu"]


class Activation(NamedTuple):
    """A function φ with the Gaussian expectations that the limits of networks need.

    Attributes:
        fn: φ itself, entry by entry.
        dual: (q1, q2, c) ↦ E[φ(u)φ(v)] for arrays that broadcast.
        dual_derivative: (q1, q2, c) ↦ E[φ'(u)φ'(v)], which is also ∂/∂c of the dual.
    """

    fn: Callable[[Array], Array]
    dual: Callable[[Array, Array, Array], Array]
    dual_derivative: Callable[[Array, Array, Array], Array]

    def __call__(self, x: Array) -> Array:
        return self.fn(x)


def piecewise_linear(a: float, b: float) -> Activation:
    """φ(x) = a min(x, 0) + b max(x, 0), with kink at 0.

    With the size s = √(q1 q2), the cosine ρ = c/s and κ₀, κ₁ of `ntklib.angle` its dual is
    (b − a)² s κ₁(ρ)/2 + ab c, and that of its derivative (b − a)² κ₀(ρ)/2 + ab.

    Raises:
        TypeError, ValueError: a or b is not a finite number.
    """
    _check.number("a", a)
    _check.number("b", b)
    kink = (b - a) ** 2 / 2

    def fn(x: Array) -> Array:
        return a * jnp.minimum(x, 0.0) + b * jnp.maximum(x, 0.0)

    def dual(q1: Array, q2: Array, c: Array) -> Array:
        size, rho, gap = correlation(q1, q2, c)
        return kink * size * kappa1(rho, gap) + a * b * c

    def dual_derivative(q1: Array, q2: Array, c: Array) -> Array:
        _, rho, gap = correlation(q1, q2, c)
        return kink * kappa0(rho, gap) + a * b

    return Activation(fn, dual, dual_derivative)


def leaky_relu(alpha: float) -> Activation:
    """φ(x) = max(x, 0) + alpha min(x, 0), a `piecewise_linear` function."""
    return piecewise_linear(alpha, 1.0)


relu = piecewise_linear(0.0, 1.0)._replace(fn=jax.nn.relu)
abs_ = piecewise_linear(-1.0, 1.0)._replace(fn=jnp.abs)
identity = piecewise_linear(1.0, 1.0)


def _erf_dual(q1: Array, q2: Array, c: Array) -> Array:
    return 2 / jnp.pi * jnp.arcsin(2 * c / jnp.sqrt((1 + 2 * q1) * (1 + 2 * q2)))


def _erf_dual_derivative(q1: Array, q2: Array, c: Array) -> Array:
    return 4 / jnp.pi / jnp.sqrt((1 + 2 * q1) * (1 + 2 * q2) - 4 * c**2)


erf = Activation(_erf, _erf_dual, _erf_dual_derivative)
