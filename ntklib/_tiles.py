"""A kernel evaluated tile by tile: small enough for a cache, each on a core of its own.

All tiles but those of a short batch have one shape, so that a kernel is compiled once for the
diagonal and once for the rest: the last tile of a batch reaches back over points that the one
before it owns, and only its own rows are kept.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntklib import _work
from ntklib.fused import fused
from ntklib.kernels import Kernel, KernelFunction

Numbers = np.ndarray[Any, Any]
S = TypeVar("S")
T = TypeVar("T")

UNTRACEABLE = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)


class Tile(NamedTuple):
    """Consecutive points of a batch.

    Attributes:
        rows: the points it owns, in the batch.
        keep: the same ones in `points`.
        points: shape (size, d).
    """

    rows: slice
    keep: slice
    points: Array


def cut(x: Numbers, size: int, rows: slice = slice(None)) -> list[Tile]:
    """The rows of a batch, shape (n, d), in tiles of that many, or of n if they are fewer."""
    start, stop, _ = rows.indices(len(x))
    size = min(size, len(x))
    found = []
    for part in _work.tiles(stop - start, size):
        own = slice(start + part.start, start + part.stop)
        first = min(own.start, len(x) - size)
        keep = slice(own.start - first, own.stop - first)
        found.append(Tile(own, keep, jnp.asarray(x[first : first + size])))
    return found


def upper(n: int) -> list[tuple[int, int]]:
    """The pairs i ≤ j of range(n), row by row."""
    return [(i, j) for i in range(n) for j in range(i, n)]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(work: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """work(item) for each item, in their order, on that many threads.

    At most twice as many items as threads are begun and not yet taken; whoever stops taking
    stops the work.
    """
    with ThreadPoolExecutor(workers) as pool:
        begun: deque[Future[T]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) == 2 * workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


class Evaluator:
    """The values of a kernel on pairs of tiles, compiled if JAX can trace the kernel.

    Args:
        kernel: any kernel ``k(x1, x2=None)``.
        x1: points, shape (n1, d).
        x2: points, shape (n2, d); ``None`` means x1.

    Attributes:
        inner: () for a scalar kernel, (m, m) for a matrix-valued one.

    Raises:
        TypeError, ValueError: values of another dtype or shape than a kernel has.
    """

    def __init__(self, kernel: KernelFunction, x1: Numbers, x2: Numbers | None) -> None:
        kernel = fused(kernel)
        self._values = _compiled(kernel)
        a, b = jnp.asarray(x1[:1]), jnp.asarray((x1 if x2 is None else x2)[-1:])
        try:
            told = jax.eval_shape(self._values, a, b)
        except UNTRACEABLE:
            self._values = partial(_values, kernel)
            told = self._values(a, b)
        self.inner = tuple(told.shape[2:])
        square = len(self.inner) in (0, 2) and self.inner[:1] == self.inner[1:]
        if told.shape[:2] != (1, 1) or not square:
            raise ValueError(
                "kernel(x1, x2): expected shape (n1, n2) or (n1, n2, m, m), got "
                f"{told.shape} for one point and one point"
            )
        if told.dtype != x1.dtype:
            raise TypeError(f"kernel(x1, x2): expected {x1.dtype}, as the points, got {told.dtype}")

    def __call__(self, one: Tile, other: Tile | None = None) -> Numbers:
        """The values between two tiles, or within one, there exactly symmetric.

        Raises:
            ValueError: NaN or infinite values, or others than their shapes ask for.
        """
        second = one if other is None else other
        shape = (len(one.points), len(second.points), *self.inner)
        values = self._values(one.points, None if other is None else other.points)
        found = np.asarray(values)
        if found.shape != shape:
            raise ValueError(f"kernel(x1, x2): expected shape {shape}, got {found.shape}")
        found = found[one.keep, second.keep]
        if other is None:
            found = _mirrored(found)
        if not np.isfinite(found).all():
            raise ValueError(
                f"kernel(x1, x2): NaN or infinite values between rows {one.rows.start} to "
                f"{one.rows.stop - 1} and {second.rows.start} to {second.rows.stop - 1}"
            )
        return found


class Grid(NamedTuple):
    """A batch of points in blocks of a few tiles each.

    Attributes:
        rows: the points of each block, in the batch.
        tiles: its tiles.
    """

    rows: list[slice]
    tiles: list[list[Tile]]


def grid(x: Numbers, tile: int, block: int) -> Grid:
    """The batch, shape (n, d), in blocks of that many points, made of tiles."""
    rows = _work.tiles(len(x), block)
    return Grid(rows, [cut(x, tile, part) for part in rows])


def block(evaluate: Evaluator, rows: list[Tile], columns: list[Tile] | None) -> Numbers:
    """The values between all rows and all columns; ``None`` means the rows, symmetric."""
    others = rows if columns is None else columns
    if len(rows) == len(others) == 1:
        return evaluate(rows[0], None if columns is None else others[0])
    top, left = rows[0].rows.start, others[0].rows.start
    shape = (rows[-1].rows.stop - top, others[-1].rows.stop - left, *evaluate.inner)
    values: Numbers = np.empty(shape, rows[0].points.dtype)
    pairs = upper(len(rows)) if columns is None else np.ndindex(len(rows), len(others))
    for i, j in pairs:
        r = slice(rows[i].rows.start - top, rows[i].rows.stop - top)
        c = slice(others[j].rows.start - left, others[j].rows.stop - left)
        if columns is not None:
            values[r, c] = evaluate(rows[i], others[j])
        elif i == j:
            values[r, r] = evaluate(rows[i])
        else:
            values[r, c] = evaluate(rows[i], rows[j])
            values[c, r] = transposed(values[r, c])
    return values


def transposed(values: Numbers) -> Numbers:
    """k(x2, x1) from k(x1, x2): a view of shape (n2, n1) or (n2, n1, m, m)."""
    return values.T if values.ndim == 2 else values.transpose(1, 0, 3, 2)


def _compiled(kernel: KernelFunction) -> Callable[[Array, Array | None], Array]:
    if isinstance(kernel, Kernel):
        return partial(_of_kernel, kernel)
    return partial(_of_function, kernel)


def _values(kernel: KernelFunction, x1: Array, x2: Array | None) -> Array:
    # By default a GPU would round the factors of a float32 product to 10 bits.
    with jax.default_matmul_precision("highest"):
        return jnp.asarray(kernel(x1) if x2 is None else kernel(x1, x2))


def _mirrored(values: Numbers) -> Numbers:
    """The upper half twice. XLA would compute each value again for its mirror image."""
    below = np.tri(len(values), k=-1, dtype=bool)
    if values.ndim == 2:
        return np.where(below, values.T, values)
    found = np.where(below[:, :, None, None], transposed(values), values)
    own = np.arange(len(values))
    blocks = found[own, own]
    inner = np.tri(blocks.shape[1], k=-1, dtype=bool)
    found[own, own] = np.where(inner, blocks.transpose(0, 2, 1), blocks)
    return found


_of_kernel = jax.jit(_values)
_of_function = jax.jit(_values, static_argnums=0)
