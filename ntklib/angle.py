"""The angle of two correlated Gaussians, with the digits that its cosine loses.

Near a cosine of ±1 a change of ε in the cosine moves the angle by √ε. These functions
therefore take, beside the cosine ρ = cos θ, its gap g = 1 − |ρ|, which may be known to more
digits than ρ tells. The gap only sharpens values: derivatives are taken in ρ, to any order.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

__all__ = ["correlation", "kappa0", "kappa1", "sine"]

# sin α − α cos α = Σ (−1)ᵏ 2(k+1)/(2k+3)! α^(2k+3)
_SERIES = [(-1) ** k * 2 * (k + 1) / math.factorial(2 * k + 3) for k in range(9)]


def correlation(q1: Array, q2: Array, c: Array) -> tuple[Array, Array, Array]:
    """The size √(q1 q2), the cosine ρ = c / √(q1 q2) and its gap 1 − |ρ|.

    Rounding may push c past ±√(q1 q2): ρ is held in [−1, 1]. Where a variance is 0, so is ρ.
    """
    square = q1 * q2
    alive = square > 0
    size = jnp.where(alive, jnp.sqrt(jnp.where(alive, square, 1.0)), 0.0)
    rho = jnp.where(alive, c / jnp.where(alive, size, 1.0), 0.0)
    # Held without touching the derivative.
    rho = rho + lax.stop_gradient(jnp.clip(rho, -1.0, 1.0) - rho)
    return size, rho, lax.stop_gradient(1 - jnp.abs(rho))


@jax.custom_jvp
def sine(rho: Array, gap: Array) -> Array:
    """sin θ; its derivative −ρ / sin θ is taken as 0 at θ = 0 and π."""
    return jnp.sqrt(gap * (2 - gap))


@jax.custom_jvp
def kappa0(rho: Array, gap: Array) -> Array:
    """κ₀ = (π − θ)/π; its derivative 1 / (π sin θ) is taken as 0 at θ = 0 and π."""
    acute = _acute(gap) / jnp.pi
    return jnp.where(rho >= 0, 1 - acute, acute)


@jax.custom_jvp
def kappa1(rho: Array, gap: Array) -> Array:
    """κ₁ = (sin θ + (π − θ) cos θ)/π; its derivative is κ₀, also at θ = 0 and π."""
    return jnp.where(rho >= 0, 1 - gap, 0.0) + defect(gap)


@sine.defjvp
def _(point: tuple[Array, Array], tangent: tuple[Array, Array]) -> tuple[Array, Array]:
    rho, gap = point
    return sine(rho, gap), -rho * _reciprocal(sine(rho, gap)) * tangent[0]


@kappa0.defjvp
def _(point: tuple[Array, Array], tangent: tuple[Array, Array]) -> tuple[Array, Array]:
    return kappa0(*point), _reciprocal(sine(*point)) / jnp.pi * tangent[0]


@kappa1.defjvp
def _(point: tuple[Array, Array], tangent: tuple[Array, Array]) -> tuple[Array, Array]:
    return kappa1(*point), kappa0(*point) * tangent[0]


def defect(gap: Array) -> Array:
    """(sin α − α cos α)/π for the acute angle α = arccos(1 − gap), to its last digit.

    It is κ₁ at the angle π − α, and κ₁ − ρ at the angle α.
    """
    alpha = _acute(gap)
    square = alpha * alpha
    series = jnp.zeros_like(square)
    for coefficient in reversed(_SERIES):
        series = series * square + coefficient
    # Below 1 the difference would cancel.
    direct = jnp.sqrt(gap * (2 - gap)) - alpha * (1 - gap)
    return jnp.where(alpha < 1, alpha * square * series, direct) / jnp.pi


def _acute(gap: Array) -> Array:
    return 2 * jnp.arcsin(jnp.sqrt(gap / 2))


def _reciprocal(x: Array) -> Array:
    """1/x, and 0 for x = 0."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1.0), 0.0)
