"""The angle of two correlated Gaussians, with the digits that its cosine loses.

Near a cosine of ±1 a change of ε in the cosine moves the angle by √ε. Covariances therefore
travel with the gap 1 − |cos θ|, which is small there and keeps its digits. The gap only
sharpens values: derivatives are taken in the variances and the covariance.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.polynomial import chebyshev, polynomial

__all__ = ["Pair", "acute", "defect", "kappa0", "kappa1", "sharp", "sine"]


def _economised(coefficients: Sequence[float], terms: int) -> list[float]:
    """Σ aₖ gᵏ on [0, 1] as a polynomial in t = 2g − 1, cut in Chebyshev polynomials."""
    in_t: Any = np.zeros(1)
    for a in reversed(coefficients):
        in_t = polynomial.polyadd(polynomial.polymul(in_t, [0.5, 0.5]), [a])
    cut = chebyshev.cheb2poly(chebyshev.poly2cheb(in_t)[:terms])
    return [float(a) for a in cut]


# arccos(1 − g) = √(2g) Σ aₖ gᵏ, and its integral from 0 to g is g √(2g) Σ aₖ gᵏ/(k + 3/2):
# no loss near g = 0, where differences of sines have one. The cut series are exact to
# rounding in the dtype.
_ACUTE = [math.comb(2 * k, k) / (8**k * (2 * k + 1)) for k in range(60)]
_DEFECT = [a / (k + 1.5) for k, a in enumerate(_ACUTE)]
_TERMS = {"float32": 10, "float64": 21}
_SERIES = {
    dtype: (_economised(_ACUTE, terms), _economised(_DEFECT, terms))
    for dtype, terms in _TERMS.items()
}


@jax.custom_jvp
def sharp(value: Array, plain: Array) -> Array:
    """The accurate value, with the derivative of the plain formula for the same quantity."""
    return value


@sharp.defjvp
def _(point: tuple[Array, Array], tangent: tuple[Array, Array]) -> tuple[Array, Array]:
    return sharp(*point), tangent[1]


@jax.custom_jvp
def root(q: Array) -> Array:
    """√q; its derivative at q = 0 is taken as 0."""
    return jnp.sqrt(q)


@root.defjvp
def _(point: tuple[Array], tangent: tuple[Array]) -> tuple[Array, Array]:
    return root(*point), reciprocal(2 * root(*point)) * tangent[0]


def reciprocal(x: Array) -> Array:
    """1/x, and 0 for x = 0."""
    return jnp.where(x == 0, 0.0, 1 / jnp.where(x == 0, 1.0, x))


class Pair(NamedTuple):
    """The law N(0, [[q1, c], [c, q2]]) of (u, v), in the forms that dual activations need.

    Attributes:
        q1, q2: variances, arrays that broadcast against c.
        c: covariances.
        gap: 1 − |c|/√(q1 q2), as accurately as it is known.
    """

    q1: Array
    q2: Array
    c: Array
    gap: Array

    @classmethod
    def of(cls, q1: Array, q2: Array, c: Array) -> "Pair":
        """The pair with the gap that follows from c; rounding may push |c| past √(q1 q2)."""
        size = jnp.sqrt(q1 * q2)
        gap = jnp.where(size > 0, 1 - jnp.abs(c) * reciprocal(size), 1.0)
        return cls(q1, q2, c, jax.lax.stop_gradient(jnp.clip(gap, 0.0, 1.0)))

    @property
    def size(self) -> Array:
        """√(q1 q2)."""
        return root(self.q1) * root(self.q2)

    @property
    def rho(self) -> Array:
        """The cosine c/√(q1 q2); 0 where a variance is 0."""
        return self.c * (reciprocal(root(self.q1)) * reciprocal(root(self.q2)))

    @property
    def det(self) -> Array:
        """q1 q2 − c²."""
        value = self.q1 * self.q2 * (self.gap * (2 - self.gap))
        return sharp(value, self.q1 * self.q2 - self.c**2)

    @property
    def minus(self) -> Array:
        """E(u − v)² = q1 + q2 − 2c."""
        apart = jnp.where(self.c < 0, 2 - self.gap, self.gap)
        value = (root(self.q1) - root(self.q2)) ** 2 + 2 * self.size * apart
        return sharp(value, self.q1 + self.q2 - 2 * self.c)

    @property
    def plus(self) -> Array:
        """E(u + v)² = q1 + q2 + 2c."""
        return self._replace(c=-self.c).minus


@jax.custom_jvp
def sine(rho: Array, gap: Array) -> Array:
    """sin θ of cos θ = ρ; its derivative −ρ/sin θ is taken as 0 at θ = 0 and π."""
    return jnp.sqrt(gap * (2 - gap))


@jax.custom_jvp
def kappa0(rho: Array, gap: Array) -> Array:
    """κ₀ = (π − θ)/π; its derivative 1/(π sin θ) is taken as 0 at θ = 0 and π."""
    share = acute(gap) / jnp.pi
    return jnp.where(rho < 0, share, 1 - share)


@jax.custom_jvp
def kappa1(rho: Array, gap: Array) -> Array:
    """κ₁ = (sin θ + (π − θ) cos θ)/π; its derivative is κ₀, also at θ = 0 and π."""
    return jnp.where(rho < 0, 0.0, 1 - gap) + defect(gap)


@sine.defjvp
def _(point: tuple[Array, Array], tangent: tuple[Array, Array]) -> tuple[Array, Array]:
    return sine(*point), -point[0] * reciprocal(sine(*point)) * tangent[0]


@kappa0.defjvp
def _(point: tuple[Array, Array], tangent: tuple[Array, Array]) -> tuple[Array, Array]:
    return kappa0(*point), reciprocal(sine(*point)) / jnp.pi * tangent[0]


@kappa1.defjvp
def _(point: tuple[Array, Array], tangent: tuple[Array, Array]) -> tuple[Array, Array]:
    return kappa1(*point), kappa0(*point) * tangent[0]


def acute(gap: Array) -> Array:
    """The angle α = arccos(1 − gap) in [0, π/2], to its last digits."""
    return jnp.sqrt(2 * gap) * _evaluate(gap, 0)


def defect(gap: Array) -> Array:
    """(sin α − α cos α)/π at α = arccos(1 − gap), to its last digits.

    It is κ₁ at the angle π − α, and κ₁ − cos α at α.
    """
    return gap * jnp.sqrt(2 * gap) * _evaluate(gap, 1) / jnp.pi


def _evaluate(gap: Array, which: int) -> Array:
    coefficients = _SERIES[gap.dtype.name][which]
    t = 2 * gap - 1
    total = jnp.full_like(t, coefficients[-1])
    for a in coefficients[-2::-1]:
        total = total * t + a
    return total
