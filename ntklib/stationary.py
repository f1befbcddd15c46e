"""Kernels of the distance between two points: RBF, Laplace and Matérn."""

from dataclasses import field

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from ntklib import _check
from ntklib.kernels import Pointwise, pytree, set_fields

__all__ = ["RBF", "Laplace", "Matern", "Stationary"]


@pytree
class Stationary(Pointwise):
    """k(x, y) = h(‖x − y‖ / length_scale), positive definite by :prf:ref:`prop-mixtures`.

    The distance is taken from differences, coordinate by coordinate: it is exactly zero
    for equal points and loses nothing for near ones.

    Args:
        length_scale: a number > 0, in the unit of the points.

    Raises:
        TypeError: length_scale is not a real number.
        ValueError: length_scale is not finite and positive.
    """

    length_scale: ArrayLike = 1.0

    def __post_init__(self) -> None:
        set_fields(self, length_scale=_check.number("length_scale", self.length_scale, above=0))

    def squared(self, x: Array, y: Array) -> Array:
        """r² = (‖x − y‖ / length_scale)²."""
        return jnp.sum(((x - y) / self.length_scale) ** 2)


@pytree
class RBF(Stationary):
    """k(x, y) = exp(−r²/2), r = ‖x − y‖ / length_scale; strictly positive definite."""

    def evaluate(self, x: Array, y: Array) -> Array:
        return jnp.exp(-self.squared(x, y) / 2)


@pytree
class Laplace(Stationary):
    """k(x, y) = exp(−r), r = ‖x − y‖ / length_scale, the norm being the Euclidean one.

    On the line its norm is the one of :eq:`eq-laplace-norm`. It has a cusp at x = y, where
    its derivative is 0 by convention. (scikit-learn's ``laplacian_kernel`` takes the L1
    distance instead.)
    """

    def evaluate(self, x: Array, y: Array) -> Array:
        return _matern12(self.squared(x, y))


# Matérn functions of u = s², s = √(2ν) r. Differentiated through √u they would give NaN at
# u = 0; each one's derivative in u is the one below, which is finite there.
@jax.custom_jvp
def _matern12(u: Array) -> Array:
    return jnp.exp(-jnp.sqrt(u))


# Past s = 1000 they are 0 in every dtype; beyond the largest float, ∞ · 0 would be NaN.
@jax.custom_jvp
def _matern32(u: Array) -> Array:
    s = jnp.minimum(jnp.sqrt(u), 1000.0)
    return (1 + s) * jnp.exp(-s)


@jax.custom_jvp
def _matern52(u: Array) -> Array:
    s = jnp.minimum(jnp.sqrt(u), 1000.0)
    return (1 + s + s**2 / 3) * jnp.exp(-s)


@_matern12.defjvp
def _(u: tuple[Array], du: tuple[Array]) -> tuple[Array, Array]:
    k = _matern12(u[0])
    s = jnp.sqrt(jnp.where(u[0] > 0, u[0], 1.0))
    return k, jnp.where(u[0] > 0, -k / (2 * s), 0.0) * du[0]


_matern32.defjvps(lambda du, k, u: -_matern12(u) / 2 * du)
_matern52.defjvps(lambda du, k, u: -_matern32(u) / 6 * du)


@pytree
class Matern(Stationary):
    """The Matérn kernel of smoothness nu, :eq:`eq-matern`, with r = ‖x − y‖ / length_scale:

    nu = 1/2: e^(−r);  3/2: (1 + √3 r) e^(−√3 r);  5/2: (1 + √5 r + 5r²/3) e^(−√5 r).

    Args:
        length_scale: a number > 0, in the unit of the points.
        nu: 0.5, 1.5 or 2.5.

    Raises:
        TypeError, ValueError: length_scale as for `RBF`; another nu.
    """

    nu: float = field(default=1.5, metadata={"static": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nu not in (0.5, 1.5, 2.5):
            raise ValueError(f"nu: expected 0.5, 1.5 or 2.5, got {self.nu!r}")

    def evaluate(self, x: Array, y: Array) -> Array:
        matern = {0.5: _matern12, 1.5: _matern32, 2.5: _matern52}[self.nu]
        return matern(2 * self.nu * self.squared(x, y))
