"""A fast arccosine of 1 − g, with an error proved to be below the dtype's rounding.

:prf:ref:`prop-arccos` has the proof in full.

With α = arccos(1 − g) for 0 ≤ g ≤ 1,

    α = √(2g) A(g),                    A(g) = Σ aₖ gᵏ,  aₖ = (2k choose k) / (8ᵏ (2k + 1)),
    sin α − α cos α = g √(2g) B(g),    B(g) = Σ bₖ gᵏ,  bₖ = aₖ / (k + 3/2).

All coefficients are positive, and on [0, 1] so are those of gᵏ in the Chebyshev polynomials
Tⱼ(2g − 1), since cos²ᵏ(φ/2) is a sum of cosines with positive coefficients. Hence A has a
Chebyshev series with positive coefficients. Cut off after degree n, it misses A by the sum of
the others times cosines: most at g = 1, where all cosines are 1, and there by A(1) − Aₙ(1) with
A(1) = π/√8. As A ≥ 1, that number bounds the relative error on all of [0, 1]. The same holds for
B, with B(1) = 1/√2 and B ≥ 2/3.
"""

import math
from fractions import Fraction
from functools import lru_cache
from itertools import zip_longest

import jax.numpy as jnp
from jax import Array

__all__ = ["acute", "arcsin", "defect", "polynomial", "truncation"]

TERMS = 80
"""Of the power series in exact arithmetic: the rest is below 2⁻⁸⁰."""

DEGREES = {"float32": (7, 6), "float64": (18, 16)}
"""The least degrees of A and B for which the proved error is below a quarter of eps."""


def acute(gap: Array) -> Array:
    """The angle α = arccos(1 − gap) in [0, π/2] for gaps in [0, 1], entry by entry."""
    return jnp.sqrt(2 * gap) * _at(gap, 0)


def defect(gap: Array) -> Array:
    """sin α − α cos α for α = arccos(1 − gap), entry by entry, without cancellation."""
    return gap * jnp.sqrt(2 * gap) * _at(gap, 1)


def arcsin(x: Array) -> Array:
    """The arcsine on [−1, 1]: x A(2x²) below 1/√2, and there beyond π/2 − arccos|x|."""
    size = jnp.abs(x)
    small = 2 * x * x <= 1
    u = jnp.where(small, 2 * x * x, 1 - size)
    angle = jnp.where(small, size, jnp.sqrt(2 * u)) * _at(u, 0)
    return jnp.copysign(jnp.where(small, angle, jnp.pi / 2 - angle), x)


@lru_cache
def polynomial(degree: int, raised: int) -> tuple[float, ...]:
    """The coefficients of 1, g, g², … in the Chebyshev series of A (raised 0) or B (1), cut off."""
    return tuple(map(float, _exact(degree, raised)))


def truncation(degree: int, raised: int) -> float:
    """The proved bound on the relative error of the polynomial on [0, 1], before rounding."""
    missed = sum(_power_series(raised)) - sum(_exact(degree, raised))
    return float(missed / _power_series(raised)[0])


def _power_series(raised: int) -> list[Fraction]:
    terms = [Fraction(math.comb(2 * k, k), 8**k * (2 * k + 1)) for k in range(TERMS)]
    return [a / (k + Fraction(3, 2)) for k, a in enumerate(terms)] if raised else terms


@lru_cache
def _exact(degree: int, raised: int) -> tuple[Fraction, ...]:
    # cos²ᵏ(φ/2) = 4⁻ᵏ Σⱼ (2k choose k − j) cos jφ over j = −k … k, and cos jφ = Tⱼ(2g − 1).
    series = _power_series(raised)
    total = [Fraction(0)] * (degree + 1)
    before, now = [Fraction(1)], [Fraction(-1), Fraction(2)]
    for j in range(degree + 1):
        terms = [a * math.comb(2 * k, k - j) / 4**k for k, a in enumerate(series) if k >= j]
        c = sum(terms, Fraction(0))
        for i, t in enumerate(before):
            total[i] += (2 * c if j else c) * t
        # Tⱼ₊₁ = 2 (2g − 1) Tⱼ − Tⱼ₋₁
        pairs = zip_longest(now, [Fraction(0), *now], before, fillvalue=Fraction(0))
        before, now = now, [4 * up - 2 * same - old for same, up, old in pairs]
    return tuple(total)


def _at(gap: Array, raised: int) -> Array:
    coefficients = polynomial(DEGREES[gap.dtype.name][raised], raised)
    total = jnp.full_like(gap, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * gap + c
    return total
