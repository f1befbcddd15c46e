"""The angle of two correlated Gaussians, with the digits that its cosine loses.

Near a cosine of ±1 a change of ε in the cosine moves the angle by √ε. Covariances therefore
travel with a chord: 2 sin(α/2) for the acute angle α between the lines of u and v, the length
of the difference of two unit vectors. It only sharpens values: derivatives are taken in the
variances and the covariance.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.polynomial import chebyshev, polynomial

__all__ = ["Angle", "Pair", "acute", "defect", "kappa0", "kappa1", "sine"]


def _economised(coefficients: Sequence[float], terms: int) -> list[float]:
    """Σ aₖ gᵏ on [0, 1] as a polynomial in t = 2g − 1, cut in Chebyshev polynomials."""
    in_t: Any = np.zeros(1)
    for a in reversed(coefficients):
        in_t = polynomial.polyadd(polynomial.polymul(in_t, [0.5, 0.5]), [a])
    cut = chebyshev.cheb2poly(chebyshev.poly2cheb(in_t)[:terms])
    return [float(a) for a in cut]


# With g = 1 − cos α the angle α is √(2g) Σ aₖ gᵏ. Its integral over g from 0, which is
# sin α − α cos α, is g √(2g) Σ aₖ gᵏ/(k + 3/2): no loss near g = 0, where a difference of
# sines has one. The series are cut where they are exact to rounding in the dtype.
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


class Angle(NamedTuple):
    """An angle θ in [0, π], the angle between u and v.

    Attributes:
        rho: cos θ; here for its derivative.
        chord: 2 sin(α/2) with the acute one α of θ and π − θ.
        obtuse: whether θ > π/2.
    """

    rho: Array
    chord: Array
    obtuse: Array

    @property
    def gap(self) -> Array:
        """1 − cos α = 1 − |cos θ|."""
        return self.chord**2 / 2


class Pair(NamedTuple):
    """The law N(0, [[q1, c], [c, q2]]) of (u, v), in the forms that dual activations need.

    Attributes:
        q1, q2: variances, arrays that broadcast against c.
        c: covariances.
        chord, obtuse: those of the `Angle` between u and v, as accurately as it is known.
    """

    q1: Array
    q2: Array
    c: Array
    chord: Array
    obtuse: Array

    @classmethod
    def of(cls, q1: Array, q2: Array, c: Array) -> "Pair":
        """The pair with the angle that follows from c; rounding may push |c| past √(q1 q2)."""
        size = jnp.sqrt(q1 * q2)
        gap = jnp.where(size > 0, 1 - jnp.abs(c) * reciprocal(size), 1.0)
        chord = jnp.sqrt(2 * jnp.clip(lax.stop_gradient(gap), 0.0, 1.0))
        return cls(q1, q2, c, chord, c < 0)

    @classmethod
    def equal(cls, q: Array) -> "Pair":
        """The pair u = v."""
        chord = jnp.where(q > 0, 0.0, math.sqrt(2)).astype(q.dtype)
        return cls(q, q, q, chord, jnp.zeros_like(q, bool))

    @property
    def size(self) -> Array:
        """√(q1 q2)."""
        return root(self.q1) * root(self.q2)

    @property
    def angle(self) -> Angle:
        """The angle between u and v, a right one where a variance is 0."""
        rho = self.c * (reciprocal(root(self.q1)) * reciprocal(root(self.q2)))
        return Angle(rho, self.chord, self.obtuse)

    @property
    def det(self) -> Array:
        """q1 q2 − c²."""
        gap = self.angle.gap
        return sharp(self.q1 * self.q2 * (gap * (2 - gap)), self.q1 * self.q2 - self.c**2)

    @property
    def minus(self) -> Array:
        """E(u − v)² = q1 + q2 − 2c."""
        gap = self.angle.gap
        apart = 2 * self.size * jnp.where(self.obtuse, 2 - gap, gap)
        value = (root(self.q1) - root(self.q2)) ** 2 + apart
        return sharp(value, self.q1 + self.q2 - 2 * self.c)

    @property
    def plus(self) -> Array:
        """E(u + v)² = q1 + q2 + 2c."""
        return self._replace(c=-self.c, obtuse=~self.obtuse).minus


@jax.custom_jvp
def sine(angle: Angle) -> Array:
    """sin θ; its derivative −cos θ/sin θ in cos θ is taken as 0 at θ = 0 and π."""
    return angle.chord * jnp.sqrt(1 - angle.chord**2 / 4)


@jax.custom_jvp
def kappa0(angle: Angle) -> Array:
    """κ₀ = (π − θ)/π; its derivative 1/(π sin θ) in cos θ is taken as 0 at θ = 0 and π."""
    share = acute(angle.chord) / jnp.pi
    return jnp.where(angle.obtuse, share, 1 - share)


@jax.custom_jvp
def kappa1(angle: Angle) -> Array:
    """κ₁ = (sin θ + (π − θ) cos θ)/π; its derivative in cos θ is κ₀, also at θ = 0 and π."""
    return jnp.where(angle.obtuse, 0.0, 1 - angle.gap) + defect(angle.chord)


@sine.defjvp
def _(point: tuple[Angle], tangent: tuple[Angle]) -> tuple[Array, Array]:
    value = sine(*point)
    return value, -point[0].rho * reciprocal(value) * tangent[0].rho


@kappa0.defjvp
def _(point: tuple[Angle], tangent: tuple[Angle]) -> tuple[Array, Array]:
    return kappa0(*point), reciprocal(sine(*point)) / jnp.pi * tangent[0].rho


@kappa1.defjvp
def _(point: tuple[Angle], tangent: tuple[Angle]) -> tuple[Array, Array]:
    return kappa1(*point), kappa0(*point) * tangent[0].rho


def acute(chord: Array) -> Array:
    """The angle α in [0, π/2] with the chord 2 sin(α/2), to its last digits."""
    return chord * _series(chord, 0)


def defect(chord: Array) -> Array:
    """(sin α − α cos α)/π for the angle α with this chord, to its last digits.

    It is κ₁ at the angle π − α, and κ₁ − cos α at α.
    """
    return chord**3 * (_series(chord, 1) / (2 * jnp.pi))


def _series(chord: Array, which: int) -> Array:
    coefficients = _SERIES[chord.dtype.name][which]
    t = chord**2 - 1
    total = jnp.full_like(t, coefficients[-1])
    for a in coefficients[-2::-1]:
        total = total * t + a
    return total
