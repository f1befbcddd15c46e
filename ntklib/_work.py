"""Long work: cut into tiles, told on the way, and taken up again where it was interrupted.

identity = fingerprint("descend", np.asarray(x), rate)
checkpoint = Checkpoint(path, identity)
state = checkpoint.load() or {"step": np.array(0), "values": start}
first = int(state["step"])
for step in progress(range(first, steps), "descend", shown=True, total=steps, start=first):
    ...
    checkpoint.save(step=np.array(step + 1), values=values)
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ntklib import _check

T = TypeVar("T")

DIGEST = 32
"""Bytes of the SHA-256 before the arrays in a checkpoint; they are those of an .npz file."""


def tiles(n: int, size: int) -> list[slice]:
    """The slices that cut range(n) into consecutive pieces of the size, the last one shorter.

    Raises:
        TypeError: n or size is not an integer.
        ValueError: n < 0 or size < 1.
    """
    n = _check.integer("n", n, at_least=0)
    size = _check.integer("size", size, at_least=1)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def progress(
    steps: Iterable[T], label: str, *, shown: bool, total: int | None = None, start: int = 0
) -> Iterator[T]:
    """The same steps; if shown, a bar on stderr tells how far they are.

    Args:
        steps: what is iterated over.
        label: the words before the bar.
        shown: whether to show a bar at all.
        total: how many steps the whole work has, where `steps` does not know or is a rest of it.
        start: how many of them were done before.
    """
    # Not tqdm.auto: in a notebook it would ask for widgets that the stored page cannot show.
    return iter(tqdm(steps, label, total=total, initial=start) if shown else steps)


def fingerprint(*parts: Any) -> str:
    """A short name of a computation: the same for the same parts, and for no others.

    Args:
        *parts: arrays (shape, dtype and every byte; keys too), strings, numbers, None, and tuples,
            lists and dictionaries of these.

    Raises:
        TypeError: anything else, whose text might differ between two runs.
    """
    found = hashlib.sha256()
    for part in parts:
        for word in _words(part):
            # With its length before it, no word can be taken for two.
            found.update(len(word).to_bytes(8, "big") + word)
    return found.hexdigest()[:32]


def _words(part: Any) -> Iterator[bytes]:
    if isinstance(part, jax.Array | np.ndarray | np.generic):
        if isinstance(part, jax.Array) and jnp.issubdtype(part.dtype, jax.dtypes.prng_key):
            part = jax.random.key_data(part)
        array = np.asarray(part)
        if array.dtype.hasobject:
            raise TypeError(f"fingerprint: expected numbers in an array, got {array.dtype}")
        yield f"array {array.shape} {array.dtype.str}".encode()
        yield array.tobytes()
    elif part is None or isinstance(part, str | bool | int | float | complex):
        yield f"{type(part).__name__} {part!r}".encode()
    elif isinstance(part, tuple | list):
        yield f"{type(part).__name__} of {len(part)}".encode()
        for one in part:
            yield from _words(one)
    elif isinstance(part, dict):
        yield f"dict of {len(part)}".encode()
        for key in sorted(part):
            yield from _words((key, part[key]))
    else:
        raise TypeError(
            "fingerprint: expected arrays, strings, numbers, None, tuples, lists and "
            f"dictionaries of these, got {type(part).__name__}"
        )


class Checkpoint:
    """The arrays from which one computation goes on, in one file.

    Whoever is interrupted while saving, by whatever means, finds the file of the time before.

    Args:
        path: the file; its folder exists. With ".part" behind its name it is being written.
        identity: the fingerprint of the computation.
    """

    def __init__(self, path: str | os.PathLike[str], identity: str) -> None:
        self.path = Path(path)
        self.identity = identity

    def load(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """The arrays saved last, by name, or None where nothing was saved.

        Raises:
            ValueError: the file is damaged, or belongs to another computation.
        """
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            if file.read(DIGEST) != hashlib.file_digest(file, "sha256").digest():
                raise ValueError(
                    f"{self.path}: not a checkpoint, or a damaged one; remove it to begin anew"
                )
            file.seek(DIGEST)
            with np.load(file, allow_pickle=False) as stored:
                arrays = dict(stored)
        identity = str(arrays.pop("identity"))
        if identity != self.identity:
            raise ValueError(
                f"{self.path}: the checkpoint of another computation; give the arguments that it "
                "was begun with, or another path"
            )
        return arrays

    def save(self, **arrays: np.ndarray[Any, Any]) -> None:
        """Put the arrays in place of those saved before, all of them or none."""
        part = self.path.with_name(self.path.name + ".part")
        with part.open("w+b") as file:
            file.write(bytes(DIGEST))
            np.savez(file, allow_pickle=False, identity=np.array(self.identity), **arrays)
            file.seek(DIGEST)
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)
