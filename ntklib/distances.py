"""Kernels of the distance for many points: all distances from one matrix product.

‖x − y‖² = ‖x‖² + ‖y‖² − 2⟨x, y⟩ is a product of matrices, the fastest thing that a machine can
do, and cancels where the points are near. There, and there alone, the distance is taken from the
differences of the coordinates, as in `ntklib.stationary`.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from ntklib.kernels import Kernel, pytree
from ntklib.stationary import Stationary

__all__ = ["ByProducts"]

NEAR = 0.05
"""Of ‖x‖² + ‖y‖²: a squared distance below this share of it is computed from differences."""


@pytree
class ByProducts(Kernel):
    """The values of a stationary kernel, by matrix products; differentiable nowhere.

    Args:
        kernel: any of `ntklib.stationary`.
    """

    kernel: Stationary

    def _gram(self, x1: Array, x2: Array) -> Array:
        gram: Array = _gram(self.kernel, x1, None if x2 is x1 else x2)
        return gram


@jax.jit
def _gram(kernel: Stationary, x1: Array, x2: Array | None) -> Array:
    scale = jnp.asarray(kernel.length_scale, x1.dtype)
    u, v = x1 / scale, (x1 if x2 is None else x2) / scale
    total = (u * u).sum(1)[:, None] + (v * v).sum(1)[None]
    square = total - 2 * jnp.matmul(u, v.T, precision=lax.Precision.HIGHEST)
    near = square < NEAR * total
    if x2 is None:
        own = jnp.eye(len(u), dtype=bool)
        square, near = jnp.where(own, 0.0, square), near & ~own

    def row(arguments: tuple[Array, Array, Array]) -> Array:
        point, square, near = arguments
        return jnp.where(near, ((point[None] - v) ** 2).sum(1), square)

    def again(square: Array) -> Array:
        sharp: Array = lax.map(row, (u, square, near))
        return sharp

    square = lax.cond(near.any(), again, lambda square: square, square)
    distance = jnp.sqrt(jnp.maximum(square, 0.0)) * scale

    # The kernel of two points on a line at that distance.
    def at(r: Array) -> Array:
        return kernel.evaluate(r[None], jnp.zeros_like(r)[None])

    values: Array = jnp.vectorize(at)(distance)
    return values
