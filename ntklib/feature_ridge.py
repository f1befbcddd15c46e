"""Ridge regression in feature space by one pass over the examples, in tiles of rows.

    data = in_tiles(x, y)                       # or any sequence of pairs (x, y)
    path = RidgePath(features, moments(features, data, progress=True))
    f = path(penalty)                           # as many penalties as wanted

The pass keeps the sums Σ φφᵀ and Σ φyᵀ, however many examples there are. Products and sums are
made in float64, for float32 features too: their products are exact there, and the small
eigenvalues of Σ φφᵀ, which a small penalty needs, are not lost in the rounding of the large.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ntklib import _check, _work
from ntklib.random_features import FeatureFunction, FeatureMap

__all__ = ["Moments", "RidgePath", "effective_ridge", "in_tiles", "moments"]

Numbers = np.ndarray[Any, Any]
Tiles = Sequence[tuple[ArrayLike, ArrayLike]]


def in_tiles(x: ArrayLike, y: ArrayLike, rows: int = 2048) -> Tiles:
    """The examples cut into tiles: a list of pairs of views, so that nothing is copied.

    Args:
        x: points, shape (n, d); NumPy arrays may be mapped from a file.
        y: values, shape (n,) or (n, m).
        rows: how many examples a tile has; the last one may have fewer.

    Raises:
        TypeError, ValueError: rows is no integer ≥ 1, or x and y differ in length.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"y: expected one value for each point, got {x.shape} and {y.shape}")
    return [(x[part], y[part]) for part in _work.tiles(len(x), rows)]


@dataclass(frozen=True, eq=False)
class Moments:
    """What ridge regression has to know of its examples; those of two shards add up with +.

    Attributes:
        count: the number n of examples, shape ().
        gram: Σᵢ φ(xᵢ) φ(xᵢ)ᵀ, shape (P, P), float64.
        cross: Σᵢ φ(xᵢ) yᵢᵀ, shape (P,) or (P, m), float64.
        square: Σᵢ yᵢ², shape () or (m,), float64.
        probe: two fixed points, shape (2, d).
        seen: their features, shape (2, P) or (2, P, m), which tell one feature map from another.
    """

    count: Numbers
    gram: Numbers
    cross: Numbers
    square: Numbers
    probe: Numbers
    seen: Numbers

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of the examples of both.

        Raises:
            ValueError: they are of two feature maps, or have other outputs.
        """
        if not _alike(self.seen, other.seen):
            raise ValueError("other: expected moments of the same feature map")
        if self.cross.shape != other.cross.shape:
            shapes = f"{self.cross.shape}, got {other.cross.shape}"
            raise ValueError(f"other: expected Σ φyᵀ of shape {shapes}")
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return Moments(**sums, probe=self.probe, seen=self.seen)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moments to a file, which then holds all of them or what it held before."""
        _work.Checkpoint(path, "moments").save(**asdict(self))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Moments":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError, ValueError: no such file, or one that holds no moments.
        """
        stored = _work.Checkpoint(path, "moments").load()
        if stored is None:
            raise FileNotFoundError(f"{path}: no such file")
        return Moments(**stored)


SUMS = ("count", "gram", "cross", "square")


def moments(
    features: FeatureMap,
    data: Tiles,
    *,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 16,
) -> Moments:
    """Σ φφᵀ, Σ φyᵀ and Σ y² by one pass over the tiles, :eq:`eq-moments`.

    Beside the sums one tile of features is in memory at a time. The cost is n P² multiplications
    and additions, in NumPy: the variables of its BLAS say on how many cores.

    Args:
        features: the feature map. Functions with m outputs, (n, P, m), share their weights.
        data: a sequence of tiles (x, y), x of shape (rows, d), y of shape (rows,) or (rows, m),
            all of one dtype. ``data[i]`` may make its tile when asked, the same one each time.
            Shards are parts of the sequence, such as ``data[:8]`` and ``data[8:]``.
        progress: show a bar on stderr.
        checkpoint: a file from which an interrupted pass goes on. The pass is known by its
            features, its number of tiles, and the first and the last of them.
        save_every: the number of tiles from one saving to the next.

    Raises:
        TypeError, ValueError: features is no `FeatureMap`; no tiles; a tile of a wrong dtype or
            shape, or with NaN or infinite entries; features with such entries; a checkpoint
            that is damaged or of another pass.
    """
    if not isinstance(features, FeatureMap):
        raise TypeError(f"features: expected a FeatureMap, got {features!r}")
    save_every = _check.integer("save_every", save_every, at_least=1)
    if len(data) == 0:
        raise ValueError("data: expected at least one tile, got none")
    first, last = _tile(data, 0), _tile(data, len(data) - 1)
    probe = _probe(first[0])
    fixed = {"probe": probe, "seen": np.asarray(features(probe))}
    identity = _work.fingerprint("moments", fixed, len(data), first, last)
    store = None if checkpoint is None else _work.Checkpoint(checkpoint, identity)
    sums = (store.load() if store else None) or _nothing(fixed["seen"], first[1])
    start = int(sums.pop("tiles"))
    steps = _work.progress(
        range(start, len(data)), "moments", shown=progress, total=len(data), start=start
    )
    for i in steps:
        for name, value in _of_tile(features, i, *_tile(data, i)).items():
            sums[name] += value
        done = i + 1
        if store and (done % save_every == 0 or done == len(data)):
            store.save(tiles=np.array(done), **sums)
    return Moments(**sums, **fixed)


class RidgePath:
    """Ridge regression for all penalties by one eigendecomposition, Σ φφᵀ = U diag(σ) Uᵀ.

    θ_λ = U (σ + λ)⁻¹ Uᵀ Σ φy minimises Σᵢ |f_θ(xᵢ) − yᵢ|² + λ |θ|²; the function is the one of
    kernel ridge regression with `FeatureKernel`, :prf:ref:`prop-feature-ridge`.

    Args:
        features: the feature map.
        of: the moments of the examples under this map.

    Attributes:
        eigenvalues: σ in ascending order, shape (P,), float64.

    Raises:
        ValueError: the moments are those of another feature map.
    """

    def __init__(self, features: FeatureMap, of: Moments) -> None:
        if not _alike(of.seen, np.asarray(features(of.probe))):
            raise ValueError("of: expected moments of the same feature map")
        self.features, self.moments = features, of
        self.eigenvalues, self._vectors = np.linalg.eigh(of.gram)
        self._turned = self._vectors.T @ of.cross

    def __call__(self, penalty: float) -> FeatureFunction:
        """The function f_θ with θ = θ_λ, rounded to the dtype of the features.

        Raises:
            TypeError, ValueError: the penalty is no number, or not above the rounding of Σ φφᵀ.
        """
        theta = self._vectors @ self._weights(penalty)
        return FeatureFunction(self.features, jnp.asarray(theta.astype(self.moments.seen.dtype)))

    def training_error(self, penalty: float) -> Numbers:
        """(1/n) Σᵢ (f_θ(xᵢ) − yᵢ)² on the examples, shape () or (m,), in float64."""
        c = self._weights(penalty)
        fitted = np.tensordot(self.eigenvalues, c**2, 1) - 2 * (c * self._turned).sum(0)
        error: Numbers = (self.moments.square + fitted) / self.moments.count
        return error

    def effective_dimension(self, penalty: float) -> float:
        """Σ σ/(σ + λ), the number of weights that the data decide on."""
        return float((self.eigenvalues / (self.eigenvalues + self._checked(penalty))).sum())

    def _checked(self, penalty: float) -> float:
        rounding = len(self.eigenvalues) * np.finfo(float).eps * self.eigenvalues[-1]
        _check.number("penalty", penalty)
        if not penalty > rounding:
            raise ValueError(
                f"penalty: expected more than the rounding of Σ φφᵀ, {rounding:.1e}, "
                f"got {penalty:g}"
            )
        return penalty

    def _weights(self, penalty: float) -> Numbers:
        """(σ + λ)⁻¹ Uᵀ Σ φy: θ in the eigenbasis."""
        shrink = 1 / (self.eigenvalues + self._checked(penalty))
        weights: Numbers = (self._turned.T * shrink).T
        return weights


def effective_ridge(eigenvalues: ArrayLike, penalty: ArrayLike, size: ArrayLike) -> Array:
    """The λ̃ ≥ λ with λ̃ = λ + (λ̃/P) Σ σ/(σ + λ̃), :eq:`eq-effective-ridge`.

    Ridge regression with P random features and penalty λ is, in the mean, near kernel ridge
    regression with penalty λ̃. With λ = 0 it is the largest solution; it is 0 if P ≥ N.

    Args:
        eigenvalues: σ of the kernel's Gram matrix, shape (N,), not negative.
        penalty: λ ≥ 0.
        size: P, a number ≥ 1.

    Raises:
        TypeError, ValueError: wrong dtype or shape, NaN, or out of range.
    """
    sigma = _check.floats("eigenvalues", eigenvalues)
    _check.columns("eigenvalues", sigma, len(sigma) if sigma.ndim == 1 else 0)
    penalty = _check.number("penalty", penalty, at_least=0)
    size = _check.number("size", size, at_least=1)
    root: Array = _fixed_point(sigma, penalty, size)
    return root


@jax.jit
def _fixed_point(sigma: Array, penalty: ArrayLike, size: ArrayLike) -> Array:
    # r − λ − (r/P) Σ σ/(σ + r) is convex in r and not negative at λ + Σσ/P: from there Newton's
    # steps fall to the largest root. At worst, at a double root, each one halves the distance.
    def newton(_: int, r: Array) -> Array:
        share = sigma / jnp.where(sigma + r > 0, sigma + r, 1)
        value, slope = r - penalty - r * jnp.sum(share) / size, 1 - jnp.sum(share**2) / size
        step: Array = jnp.maximum(jnp.where(slope > 0, r - value / slope, r), 0)
        return step

    root: Array = jax.lax.fori_loop(0, 60, newton, penalty + jnp.sum(sigma) / size)
    return root


def _alike(seen: Numbers, other: Numbers) -> bool:
    """Features of the probe, up to what two machines round otherwise."""
    return seen.shape == other.shape and bool(np.allclose(seen, other, rtol=1e-3, atol=1e-5))


def _probe(x: Array) -> Numbers:
    return np.linspace(-1, 1, 2 * x.shape[1], dtype=x.dtype).reshape(2, -1)


def _tile(data: Tiles, i: int) -> tuple[Array, Array]:
    x, y = data[i]
    x, y = _check.points(f"data[{i}] x", x), _check.floats(f"data[{i}] y", y)
    _check.same_dtype(x=x, y=y)
    _check.columns(f"data[{i}] y", y, len(x))
    return x, y


def _nothing(seen: Numbers, y: Array) -> dict[str, Numbers]:
    size, outputs = seen.shape[1], y.shape[1:] if seen.ndim == 2 else ()
    return {
        "tiles": np.array(0),
        "count": np.array(0),
        "gram": np.zeros((size, size)),
        "cross": np.zeros((size, *outputs)),
        "square": np.zeros(outputs),
    }


def _of_tile(features: FeatureMap, i: int, x: Array, y: Array) -> dict[str, Numbers]:
    found = _check.floats(f"features(data[{i}] x)", features(x))
    rows, values = np.asarray(found, np.float64), np.asarray(y, np.float64)
    if rows.ndim == 3:
        # Functions with m outputs: (x, a) is a point of its own, with the value y_a.
        _check.shape(f"data[{i}] y", y, (len(x), rows.shape[2]))
        rows, values = rows.transpose(0, 2, 1).reshape(-1, rows.shape[1]), values.reshape(-1)
    # The same array on both sides: NumPy then computes one triangle of the product only.
    gram = rows.T @ rows
    square = (values**2).sum(0)
    return {"count": np.array(len(x)), "gram": gram, "cross": rows.T @ values, "square": square}
