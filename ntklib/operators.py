"""The Gram matrix as something to multiply by: in memory, on disk, or computed again each time.

Products of an array and a float32 matrix are made in float32; sums of tiles in the dtype of the
array.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import zarr

from ntklib import _work
from ntklib._tiles import Evaluator, Numbers, Tile, block, cores, cut, grid, spread, upper

__all__ = ["InMemory", "OnDisk", "Operator", "Recomputed", "apply"]


class Operator(ABC):
    """A symmetric matrix K, shape (n, n), known by its products, its diagonal and its columns.

    Attributes:
        n: the number of rows.
        dtype: of its entries.
        told: where it is, in words.
    """

    n: int
    dtype: "np.dtype[Any]"
    told: str

    @abstractmethod
    def __matmul__(self, v: Numbers) -> Numbers:
        """K v for v of shape (n, m), in the dtype of v."""

    @abstractmethod
    def diagonal(self) -> Numbers:
        """The diagonal, shape (n,)."""

    @abstractmethod
    def columns(self, chosen: Numbers) -> Numbers:
        """Some columns, shape (n, k) for k integers."""


class InMemory(Operator):
    """The matrix as one array."""

    told = "in memory"

    def __init__(self, matrix: Numbers) -> None:
        self.matrix, self.n, self.dtype = matrix, len(matrix), matrix.dtype

    def __matmul__(self, v: Numbers) -> Numbers:
        product: Numbers = (self.matrix @ v.astype(self.dtype)).astype(v.dtype)
        return product

    def diagonal(self) -> Numbers:
        return self.matrix.diagonal().copy()

    def columns(self, chosen: Numbers) -> Numbers:
        # Rows lie together in memory, columns do not.
        return self.matrix[chosen].T


class Recomputed(Operator):
    """No more of the matrix than a few tiles at a time: each product computes it anew.

    Args:
        evaluate: the values of the kernel.
        x: points, shape (n, d).
        tile: rows of a tile.
        size: rows of a block, of which each thread holds one; the sums are made block by block
            in one order, so that the result does not depend on the threads.
    """

    told = "computed again for each product"

    def __init__(self, evaluate: Evaluator, x: Numbers, tile: int, size: int) -> None:
        self.x, self.n, self.dtype = x, len(x), x.dtype
        self._evaluate, self._tile = evaluate, tile
        self._grid = grid(x, tile, size)

    def _block(self, i: int, j: int) -> Numbers:
        tiles = self._grid.tiles
        return block(self._evaluate, tiles[i], None if i == j else tiles[j])

    def __matmul__(self, v: Numbers) -> Numbers:
        rows = self._grid.rows
        narrow = v.astype(self.dtype)
        product = np.zeros_like(v)

        def work(pair: tuple[int, int]) -> tuple[int, int, Numbers, Numbers | None]:
            i, j = pair
            values = self._block(i, j)
            mirrored = None if i == j else values.T @ narrow[rows[i]]
            return i, j, values @ narrow[rows[j]], mirrored

        for i, j, own, mirrored in spread(work, upper(len(rows)), cores()):
            product[rows[i]] += own
            if mirrored is not None:
                product[rows[j]] += mirrored
        return product

    def diagonal(self) -> Numbers:
        tiles = cut(self.x, self._tile)
        return np.concatenate([self._evaluate(tile).diagonal() for tile in tiles])

    def columns(self, chosen: Numbers) -> Numbers:
        return apply(self._evaluate, self.x, self.x[chosen], None, self._tile)


class OnDisk(Recomputed):
    """The matrix as `gram` put it on disk, read chunk by chunk, the upper half of it."""

    told = "on disk"

    def __init__(
        self, evaluate: Evaluator, x: Numbers, tile: int, array: "zarr.Array[Any]"
    ) -> None:
        super().__init__(evaluate, x, tile, array.chunks[0])
        self._array = array

    def _block(self, i: int, j: int) -> Numbers:
        rows = self._grid.rows
        return np.asarray(self._array[rows[i], rows[j]])


def apply(
    evaluate: Evaluator,
    x: Numbers,
    centres: Numbers,
    coefficients: Numbers | None,
    tile: int,
    *,
    progress: bool = False,
) -> Numbers:
    """k(x, centres) coefficients, a strip of tiles at a time; with ``None`` k(x, centres) itself.

    Args:
        evaluate: the values of the kernel.
        x: points, shape (n, d).
        centres: points, shape (p, d).
        coefficients: shape (p, m), or (p, m) too for a matrix-valued kernel.
        tile: rows of a tile.
        progress: show a bar on stderr.
    """
    columns = cut(centres, tile)
    rows = cut(x, tile)

    def work(row: Tile) -> Numbers:
        if coefficients is None:
            return np.concatenate([evaluate(row, column) for column in columns], 1)
        return sum_of_products(evaluate, row, columns, coefficients)

    steps = _work.progress(rows, "kernel", shown=progress, total=len(rows))
    return np.concatenate(list(spread(work, steps, cores())))


def sum_of_products(
    evaluate: Evaluator, row: Tile, columns: list[Tile], coefficients: Numbers
) -> Numbers:
    """The part of k(x, centres) coefficients that belongs to one tile of x."""
    total: Numbers | None = None
    for column in columns:
        values = evaluate(row, column)
        part = coefficients[column.rows]
        term = values @ part if values.ndim == 2 else np.einsum("ijab,jb->ia", values, part)
        total = term if total is None else total + term
    assert total is not None
    return total
