"""Gram matrices over the devices of a JAX mesh, on one machine or many: rows apart, vectors whole.

    jax.distributed.initialize(...)                 # on each host, if there are several
    mesh = jax.make_mesh((jax.device_count(),), ("rows",))
    G = sharded_gram(kernel, x, mesh=mesh)          # a jax.Array, its rows over the devices
    f = solve(kernel, x, y, ridge=1e-3, mesh=mesh)

Every process holds all points and makes the same calls. A product K v sends n numbers for each
column of v over the wire; the scalars of conjugate gradients are computed by every process from
the same vectors, and so are the same.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from ntklib._tiles import Evaluator, Numbers, cut
from ntklib.gram import checked, default_tile
from ntklib.kernels import FromFunction, Kernel, KernelFunction
from ntklib.operators import Operator

__all__ = ["Sharded", "sharded_gram"]


def sharded_gram(
    kernel: KernelFunction,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    mesh: Mesh,
    tile: int | None = None,
) -> Array:
    """k(x1, x2) with rows over the devices of the mesh, each of which computes its own, in tiles.

    Args:
        kernel: any scalar kernel ``k(x1, x2=None)`` that JAX can trace.
        x1: points, shape (n1, d), the same in every process.
        x2: points, shape (n2, d); ``None`` means x1. Every entry is computed, since a mirror
            image would have to be sent; the matrix is symmetric up to rounding.
        mesh: of one axis or more; the rows are over all of its devices.
        tile: rows that a device computes at a time.

    Returns:
        Shape (n, n2) where n is n1 rounded up to a multiple of the number of devices; the rows
        past n1 are 0.

    Raises:
        TypeError, ValueError: wrong dtypes or shapes, NaN or infinite points.
    """
    one, other = checked(x1, x2)
    evaluate = Evaluator(kernel, one, other)
    if evaluate.inner:
        raise ValueError(f"kernel: expected a scalar one, got values of shape {evaluate.inner}")
    own = -(-len(one) // mesh.size)
    tile = min(default_tile(one.dtype) if tile is None else tile, own)
    known = kernel if isinstance(kernel, Kernel) else FromFunction(kernel)
    # Axes of other kinds would ask for the shardings of all intermediate values.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    matrix: Array = _rows(known, one, one if other is None else other, mesh, own, tile)
    return matrix


@partial(jax.jit, static_argnames=("mesh", "own", "tile"))
def _rows(kernel: Kernel, x1: Array, x2: Array, mesh: Mesh, own: int, tile: int) -> Array:
    n = len(x1)
    short = mesh.size * own - n
    padded = jnp.concatenate([x1, jnp.broadcast_to(x1[-1:], (short, x1.shape[1]))])
    there = jnp.arange(mesh.size * own) < n
    axes = PartitionSpec(mesh.axis_names)  # type: ignore[no-untyped-call]

    def local(x: Array, there: Array) -> Array:
        count = -(-own // tile)
        # The last tile reaches back, as elsewhere.
        starts = jnp.minimum(jnp.arange(count) * tile, own - tile)

        def fill(i: Array, rows: Array) -> Array:
            part = lax.dynamic_slice_in_dim(x, starts[i], tile)
            with jax.default_matmul_precision("highest"):
                values = kernel(part, x2)
            return lax.dynamic_update_slice_in_dim(rows, values, starts[i], 0)

        rows = lax.fori_loop(0, count, fill, jnp.zeros((own, len(x2)), x.dtype))
        return jnp.where(there[:, None], rows, 0)

    over = jax.shard_map(local, mesh=mesh, in_specs=(axes, axes), out_specs=axes, check_vma=False)
    matrix: Array = over(padded, there)
    return matrix


@partial(jax.jit, static_argnames="whole")
def _product(matrix: Array, v: Array, whole: NamedSharding) -> Array:
    product = jnp.matmul(matrix, v, precision=lax.Precision.HIGHEST)
    gathered: Array = lax.with_sharding_constraint(product, whole)  # type: ignore[no-untyped-call]
    return gathered


@partial(jax.jit, static_argnames="whole")
def _columns(matrix: Array, chosen: Array, whole: NamedSharding) -> Array:
    gathered: Array = lax.with_sharding_constraint(matrix[:, chosen], whole)  # type: ignore[no-untyped-call]
    return gathered


class Sharded(Operator):
    """The Gram matrix over a mesh, its rows on the devices, its products in every process.

    Raises:
        RuntimeError: another process of the mesh has gone.
    """

    def __init__(self, kernel: KernelFunction, x: Numbers, mesh: Mesh) -> None:
        self.n, self.dtype = len(x), x.dtype
        self.told = f"over {mesh.size} devices of {jax.process_count()} processes"
        self._whole = NamedSharding(Mesh(mesh.devices, mesh.axis_names), PartitionSpec())  # type: ignore[no-untyped-call]
        self._matrix = sharded_gram(kernel, x, mesh=mesh)
        evaluate = Evaluator(kernel, x, None)
        parts = cut(x, default_tile(x.dtype))
        self._diagonal = np.concatenate([evaluate(part).diagonal() for part in parts])

    def __matmul__(self, v: Numbers) -> Numbers:
        return self._gathered(_product, v.astype(self.dtype)).astype(v.dtype)

    def diagonal(self) -> Numbers:
        return self._diagonal.copy()

    def columns(self, chosen: Numbers) -> Numbers:
        return self._gathered(_columns, chosen)

    def _gathered(self, call: Any, argument: Numbers) -> Numbers:
        try:
            found = np.asarray(call(self._matrix, argument, self._whole))
        except jax.errors.JaxRuntimeError as error:
            raise RuntimeError(
                "mesh: a product over the devices failed, most likely because another process has "
                f"gone; start all of them again ({str(error).splitlines()[0]})"
            ) from error
        if not np.isfinite(found).all():
            raise ValueError("kernel(x1, x2): NaN or infinite values")
        return found[: self.n]
