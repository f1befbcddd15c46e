"""Gram matrices in tiles: in memory, or on disk, where an interrupted one is gone on with.

    G = gram(kernel, x)                                   # an array in memory
    G = gram(kernel, x, out="gram.zarr", progress=True)   # a zarr array on disk
    G = open_gram("gram.zarr")                            # the same, in a later program

Of k(x, x) only the tiles on and above the diagonal are computed, the others are their mirror
images: the matrix is symmetric to the last bit.
"""

import os
from typing import Any

import numpy as np
import zarr
from jax.typing import ArrayLike

from ntklib import _check, _work
from ntklib._tiles import Evaluator, Grid, Numbers, block, cores, grid, spread, transposed, upper
from ntklib.kernels import KernelFunction
from ntklib.store import Store, open_gram

__all__ = ["default_tile", "gram", "open_gram"]

CHUNK = 2048
"""Rows and columns of a chunk on disk, about: 16 MiB in float32."""


def gram(
    kernel: KernelFunction,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    out: str | os.PathLike[str] | Numbers | None = None,
    tile: int | None = None,
    chunk: int | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> "Numbers | zarr.Array[Any]":
    """The Gram matrix k(x1, x2), computed in tiles.

    A kernel that JAX can trace is compiled, and float32 products are made in float32 on every
    device; any other function of arrays is called as it is. Beside the result a few tiles for
    each worker are in memory.

    On disk a chunk is written whole or not at all, with a checksum. The same call goes on where
    an interrupted one ended, whatever ended it: only the chunks in flight are computed again.

    Args:
        kernel: any kernel ``k(x1, x2=None)``.
        x1: points, shape (n1, d), float32 or float64.
        x2: points, shape (n2, d), the dtype of x1; ``None`` means x1.
        out: ``None`` for a new array in memory, an array to fill, or the path of a zarr array.
        tile: rows and columns that are computed at a time; by default as many as a cache holds.
        chunk: rows and columns of a chunk on disk; by default about 2048.
        workers: the number of tiles in work at a time; by default one more than there are cores,
            so that one may be written while the others are computed.
        progress: show a bar on stderr.

    Returns:
        Shape (n1, n2), or (n1, n2, m, m) for a matrix-valued kernel, in the dtype of x1: a NumPy
        array, or the zarr array on disk, which reads like one.

    Raises:
        TypeError, ValueError: wrong dtypes or shapes, NaN or infinite entries, in the points or
            the values; a path with another computation or a damaged one.
    """
    x1, x2 = checked(x1, x2)
    workers = cores() + 1 if workers is None else _check.integer("workers", workers, at_least=1)
    evaluate = Evaluator(kernel, x1, x2)
    tile = default_tile(x1.dtype, *evaluate.inner) if tile is None else tile
    tile = _check.integer("tile", tile, at_least=1)
    shape = (len(x1), len(x1 if x2 is None else x2), *evaluate.inner)
    if out is None or isinstance(out, np.ndarray):
        if chunk is not None:
            raise ValueError(f"chunk: expected None for a matrix in memory, got {chunk}")
        matrix = _buffer(out, shape, x1.dtype)
        rows, columns = grid(x1, tile, tile), None if x2 is None else grid(x2, tile, tile)
        _fill(matrix, evaluate, rows, columns, workers, progress)
        return matrix
    chunk = tile * max(1, CHUNK // tile) if chunk is None else chunk
    chunk = _check.integer("chunk", chunk, at_least=1)
    rows, columns = grid(x1, tile, chunk), None if x2 is None else grid(x2, tile, chunk)
    first = evaluate(rows.tiles[0][0], None if columns is None else columns.tiles[0][0])
    identity = {"points": _work.fingerprint(x1, x2), "probe": first[:4, :4].ravel().tolist()}
    store = Store(out, shape, x1.dtype, chunk, identity)
    _fill(store, evaluate, rows, columns, workers, progress)
    return store.finish()


def checked(x1: ArrayLike, x2: ArrayLike | None) -> tuple[Numbers, Numbers | None]:
    """One or two batches of points of one dtype and dimension, in NumPy."""
    one = _check.points("x1", x1)
    if x2 is None:
        return np.asarray(one), None
    other = _check.points("x2", x2, one.shape[1])
    _check.same_dtype(x1=one, x2=other)
    return np.asarray(one), np.asarray(other)


def default_tile(dtype: "np.dtype[Any]", *inner: int) -> int:
    """Rows of a square tile whose values take 400 KiB: two such arrays fit a core's cache."""
    entries = 400 * 2**10 // (dtype.itemsize * int(np.prod(inner, dtype=int)))
    return max(16, int(np.sqrt(entries)) // 16 * 16)


def _buffer(out: Numbers | None, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Numbers:
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out: expected {shape} {dtype}, got {out.shape} {out.dtype}")
    return out


def _fill(
    out: Numbers | Store,
    evaluate: Evaluator,
    rows: Grid,
    columns: Grid | None,
    workers: int,
    progress: bool,
) -> None:
    """Compute the blocks that are not there."""
    others = rows if columns is None else columns
    n1, n2 = len(rows.rows), len(others.rows)
    pairs = upper(n1) if columns is None else list(np.ndindex(n1, n2))
    left = pairs
    if isinstance(out, Store):
        # Of two mirror images one may have been written, and the other not.
        left = [(i, j) for i, j in pairs if not (out.has((i, j)) and (columns or out.has((j, i))))]

    def work(pair: tuple[int, int]) -> None:
        i, j = pair
        own = columns is None and i == j
        values = block(evaluate, rows.tiles[i], None if own else others.tiles[j])
        out[rows.rows[i], others.rows[j]] = values
        if columns is None and i != j:
            out[rows.rows[j], rows.rows[i]] = transposed(values)

    done = len(pairs) - len(left)
    steps = spread(work, left, workers)
    for _ in _work.progress(steps, "gram", shown=progress, total=len(pairs), start=done):
        pass
