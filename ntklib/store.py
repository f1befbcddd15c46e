"""A Gram matrix on disk as a zarr array, which outlives whatever interrupts its making.

A chunk is written under another name and then renamed, with a checksum behind its bytes: a file
under a chunk's name is that whole chunk, and its presence is the record that it was computed.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from ntklib._tiles import Numbers

__all__ = ["Store", "open_gram"]

FORMAT = "ntklib Gram matrix 1"


class Store:
    """The chunks of one Gram matrix, those there and those to come.

    Args:
        path: the folder of the zarr array; it is made if it is not there.
        shape: of the matrix, (n1, n2) or (n1, n2, m, m).
        dtype: of its entries.
        chunk: rows and columns of a chunk.
        identity: what the matrix is made of: "points", a fingerprint, and "probe", some of its
            values.

    Raises:
        ValueError: the path holds something else, another Gram matrix or a damaged one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunk: int,
        identity: dict[str, Any],
    ) -> None:
        self.path = Path(path)
        chunks = (min(chunk, shape[0]), min(chunk, shape[1]), *shape[2:])
        if not (self.path / "zarr.json").exists():
            if self.path.exists() and any(self.path.iterdir()):
                raise ValueError(f"{self.path}: expected a Gram matrix or a new path")
            # A chunk that is missing reads as NaN.
            self.array = zarr.create_array(
                str(self.path),
                shape=shape,
                chunks=chunks,
                dtype=dtype,
                compressors=[Crc32cCodec()],
                filters=None,
                fill_value=np.nan,
                attributes={"format": FORMAT, "complete": False, **identity},
            )
            self._there: set[tuple[int, int]] = set()
            return
        self.array = _opened(self.path, "r+")
        self._compare(shape, dtype, chunks, identity)
        for left in self.path.rglob("*.partial"):
            left.unlink()
        self._there = {
            pair for pair in np.ndindex(*self.array.cdata_shape[:2]) if self._whole(pair)
        }

    def has(self, pair: tuple[int, int]) -> bool:
        """Whether the chunk was there when the store was opened, and whole."""
        return pair in self._there

    def __setitem__(self, where: tuple[slice, slice], values: Numbers) -> None:
        """Put one chunk, all of it or nothing."""
        self.array[where] = values

    def finish(self) -> "zarr.Array[Any]":
        """The array for reading, now that every chunk is there."""
        if not self.array.attrs["complete"]:
            self.array.attrs["complete"] = True
        return open_gram(self.path)

    def _compare(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[int, ...],
        identity: dict[str, Any],
    ) -> None:
        for name, found, wanted in (
            ("shape", self.array.shape, shape),
            ("dtype", self.array.dtype, dtype),
            ("chunks", self.array.chunks, chunks),
        ):
            if found != wanted:
                raise ValueError(f"{self.path}: expected {name} {wanted}, found {found}")
        if self.array.attrs["points"] != identity["points"]:
            raise ValueError(f"{self.path}: the Gram matrix of other points")
        old, new = np.array(self.array.attrs["probe"]), np.array(identity["probe"])
        # The same kernel may round otherwise with tiles of another size.
        if np.abs(old - new).max() > 1e3 * np.finfo(dtype).eps * np.abs(new).max():
            raise ValueError(f"{self.path}: the Gram matrix of another kernel")

    def _whole(self, pair: tuple[int, int]) -> bool:
        file = self.path.joinpath("c", *map(str, pair), *["0"] * (self.array.ndim - 2))
        if not file.exists():
            return False
        try:
            self.array.get_block_selection(pair)
        except ValueError as error:
            raise ValueError(
                f"{file}: damaged ({error}); remove this file to have the chunk computed again"
            ) from None
        return True


def open_gram(path: str | os.PathLike[str]) -> "zarr.Array[Any]":
    """The Gram matrix that `gram` put on disk, for reading; a damaged chunk raises when it is read.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: something else is there, or a matrix that lacks chunks.
    """
    array = _opened(Path(path), "r")
    missing = array.nchunks - array.nchunks_initialized
    if missing or not array.attrs["complete"]:
        raise ValueError(
            f"{path}: {missing} of {array.nchunks} chunks are missing; call gram again, with the "
            "arguments that it was begun with, to have them computed"
        )
    return array


def _opened(path: Path, mode: Any) -> "zarr.Array[Any]":
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder")
    try:
        array = zarr.open_array(str(path), mode=mode)
    except Exception as error:  # zarr raises several kinds, on a file that is cut short
        raise ValueError(f"{path}: not a Gram matrix, or a damaged one ({error})") from None
    if array.attrs.get("format") != FORMAT:
        raise ValueError(f"{path}: a zarr array, but no Gram matrix of this library")
    return array
