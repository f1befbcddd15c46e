"""Dual activations of polynomials and of rectified monomials."""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntklib import _check
from ntklib.angle import Angle, Pair, acute, kappa0, kappa1, reciprocal, sharp, sine
from ntklib.dual_activations import Activation, number, relu

__all__ = ["hermite", "monomial", "polynomial", "rectified_monomial"]


def polynomial(coefficients: Sequence[float]) -> Activation:
    """φ(x) = Σₙ aₙ xⁿ.

    E[φ(u)φ(v)] = Σⱼ Aⱼ(q1) Aⱼ(q2) cʲ/j! with the mean Aⱼ(q) of the j-th derivative of φ
    under N(0, q), and E[φ'(u)φ'(v)] is its derivative in c.

    Args:
        coefficients: a₀, a₁, …, from the constant upwards.

    Raises:
        TypeError, ValueError: a coefficient is not a finite number, or there is none.
    """
    a = [number("coefficients", value) for value in coefficients]
    if not a:
        raise ValueError("coefficients: expected at least one, got none")
    derivatives = [np.polynomial.polynomial.polyder(a, j) for j in range(len(a))]
    means = [[float(d[n]) * _moment(n) for n in range(0, len(d), 2)] for d in derivatives]

    def fn(x: Array) -> Array:
        return _horner(a, x)

    def expectation(p: Pair) -> Array:
        terms = [_horner(m, p.q1) * _horner(m, p.q2) for m in means]
        return _horner([t / math.factorial(j) for j, t in enumerate(terms)], p.c)

    def derivative(p: Pair) -> Array:
        terms = [_horner(m, p.q1) * _horner(m, p.q2) for m in means[1:]] or [jnp.zeros_like(p.c)]
        return _horner([t / math.factorial(j) for j, t in enumerate(terms)], p.c)

    parity = 1 if not any(a[1::2]) else -1 if not any(a[::2]) else 0
    return Activation(fn, expectation, derivative, parity=parity)


def monomial(degree: int) -> Activation:
    """φ(x) = x^degree; see `polynomial`.

    Raises:
        TypeError, ValueError: degree is not an integer ≥ 0.
    """
    degree = _check.integer("degree", degree, at_least=0)
    return polynomial([0.0] * degree + [1.0])._replace(degree=degree)


def hermite(degree: int) -> Activation:
    """The Hermite polynomial h with E[h(z)²] = 1 for z ~ N(0, 1); see `polynomial`.

    At unit variances its dual is c^degree.

    Raises:
        TypeError, ValueError: degree is not an integer ≥ 0.
    """
    degree = _check.integer("degree", degree, at_least=0)
    series = [0.0] * degree + [1 / math.sqrt(math.factorial(degree))]
    return polynomial([float(a) for a in np.polynomial.hermite_e.herme2poly(series)])


def rectified_monomial(degree: int) -> Activation:
    """φ(x) = x^degree for x ≥ 0, else 0: the arc-cosine kernels.

    E[φ(u)φ(v)] = (q1 q2)^(k/2) I_k(θ) with I₀ = κ₀/2, I₁ = κ₁/2 and E[φ'(u)φ'(v)] =
    k² (q1 q2)^((k−1)/2) I_(k−1)(θ).

    Raises:
        TypeError, ValueError: degree is not an integer ≥ 0.
    """
    k = _check.integer("degree", degree, at_least=0)
    if k == 1:
        return relu

    def fn(x: Array) -> Array:
        return jnp.where(x >= 0, x**k, 0.0)

    def expectation(p: Pair) -> Array:
        return p.size**k * _quadrant(k, p.angle)

    def derivative(p: Pair) -> Array:
        if k == 0:
            return jnp.zeros_like(p.c)
        return k**2 * p.size ** (k - 1) * _quadrant(k - 1, p.angle)

    def turn(p: Pair) -> tuple[Array, Array]:
        share = acute(p.chord) / jnp.pi
        gap = jnp.where(p.obtuse, 1 - share, share)
        return jnp.sqrt(2 * gap), jnp.zeros_like(p.obtuse)

    return Activation(fn, expectation, derivative, k, turn if k == 0 else None)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _quadrant(k: int, angle: Angle) -> Array:
    """E[uᵏvᵏ; u, v > 0] for unit variances; its derivative in ρ is k² times that of k − 1."""
    # Integration by parts in u: E[uᵃ vᵇ] = (a − 1) E[u^(a−2) vᵇ] + ρ b E[u^(a−1) v^(b−1)].
    # A power 0 jumps at the edge of the quadrant: there the mean over that edge stands.
    rho = sharp(jnp.where(angle.obtuse, angle.gap - 1, 1 - angle.gap), angle.rho)
    sin, half = sine(angle), [_half_moment(b) / math.sqrt(2 * math.pi) for b in range(k + 1)]
    table = {(0, 0): kappa0(angle) / 2, (1, 1): kappa1(angle) / 2}

    def mean(a: int, b: int) -> Array:
        a, b = max(a, b), min(a, b)
        if (a, b) not in table:
            first = (a - 1) * mean(a - 2, b) if a > 1 else sin**b * half[b]
            second = b * mean(a - 1, b - 1) if b else sin ** (a - 1) * half[a - 1]
            table[a, b] = first + rho * second
        return table[a, b]

    return mean(k, k)


@_quadrant.defjvp
def _(k: int, point: tuple[Angle], tangent: tuple[Angle]) -> tuple[Array, Array]:
    slope = k**2 * _quadrant(k - 1, *point) if k else reciprocal(sine(*point)) / (2 * jnp.pi)
    return _quadrant(k, *point), slope * tangent[0].rho


def _moment(n: int) -> float:
    """E[zⁿ] for even n: (n − 1)!!."""
    return float(math.prod(range(n - 1, 0, -2)))


def _half_moment(n: int) -> float:
    """E[zⁿ; z > 0]."""
    return 2 ** (n / 2 - 1) * math.gamma((n + 1) / 2) / math.sqrt(math.pi)


def _horner(coefficients: Sequence[float] | Sequence[Array], x: Array) -> Array:
    total = jnp.zeros_like(x) + coefficients[-1]
    for a in coefficients[-2::-1]:
        total = total * x + a
    return total
