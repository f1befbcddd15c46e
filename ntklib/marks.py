"""What a panel of a moving picture holds: lines, points, stems, bars, bands and images.

What has one axis more than it needs, before the others, moves with the slider (see
`ntklib.moving`): "…" stands for the axes of frames.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntklib import figures

__all__ = ["Mark", "band", "bars", "image", "line", "lines", "points", "stems"]

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Limits = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """Something drawn in a panel, made by `line`, `points` and the like.

    Attributes:
        kind: what is drawn.
        arrays: by name, of the natural shape or with the axes of frames before it.
        look: colours, widths and the words of the legend.
        trailing: how many axes the natural shape has.
        extent: edges of an image.
        bare: whether axes are without ticks, unless some are asked for.
    """

    kind: str
    arrays: dict[str, Numbers]
    look: dict[str, Any]
    trailing: int = 1
    extent: tuple[float, float, float, float] | None = None
    bare: bool = False


def _numbers(name: str, values: ArrayLike, *, gaps: bool = False) -> Numbers:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name}: expected an array with entries, got shape {array.shape}")
    if np.isinf(array).any() or (not gaps and np.isnan(array).any()):
        raise ValueError(f"{name}: expected finite numbers")
    return array


def _mark(
    kind: str,
    arrays: dict[str, Numbers],
    color: str,
    label: str = "",
    *,
    width: float = 2.0,
    size: float = 7.0,
    opacity: float = 1.0,
) -> Mark:
    if len({array.shape[-1] for array in arrays.values()}) > 1:
        told = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{kind}: expected one length of the last axes, got {told}")
    look = {"color": color, "label": label, "width": width, "size": size, "opacity": opacity}
    return Mark(kind, arrays, look)


def line(
    x: ArrayLike,
    y: ArrayLike,
    *,
    color: str = figures.BLUE,
    label: str = "",
    width: float = 2.0,
    opacity: float = 1.0,
) -> Mark:
    """A line through (x_i, y_i), i < n; NaN in y is a gap.

    Args:
        x: shape (n,) or (…, n).
        y: shape (n,), which stands still, or (…, n).
        color: one of `ntklib.figures`, legible on both pages.
        label: words in the legend.
        width: in pixels.
        opacity: 1 covers, 0 is invisible.
    """
    arrays = {"x": _numbers("x", x), "y": _numbers("y", y, gaps=True)}
    return _mark("line", arrays, color, label, width=width, opacity=opacity)


def lines(
    x: ArrayLike,
    y: ArrayLike,
    *,
    color: str = figures.GREY,
    label: str = "",
    width: float = 1.0,
    opacity: float = 0.7,
) -> Mark:
    """k lines of one look over one grid, an ensemble say.

    Args:
        x: shape (n,).
        y: shape (k, n), which stands still, or (…, k, n).
        color: one of `ntklib.figures`, legible on both pages.
        label: words in the legend.
        width: in pixels.
        opacity: 1 covers, 0 is invisible.
    """
    grid, found = _numbers("x", x), _numbers("y", y, gaps=True)
    if grid.ndim != 1 or found.ndim < 2 or found.shape[-1] != len(grid):
        raise ValueError(f"lines: expected shapes (n,), (…, k, n), got {grid.shape}, {found.shape}")
    # One after the other, with a gap between.
    gap = np.full((*found.shape[:-1], 1), np.nan)
    joined = np.concatenate([found, gap], -1).reshape(*found.shape[:-2], -1)
    several = np.tile(np.append(grid, grid[-1]), found.shape[-2])
    return _mark("line", {"x": several, "y": joined}, color, label, width=width, opacity=opacity)


def points(
    x: ArrayLike,
    y: ArrayLike,
    *,
    color: str = figures.INK,
    label: str = "",
    size: float = 7.0,
    opacity: float = 1.0,
) -> Mark:
    """Dots at (x_i, y_i); shapes as in `line`, size in pixels."""
    arrays = {"x": _numbers("x", x), "y": _numbers("y", y, gaps=True)}
    return _mark("points", arrays, color, label, size=size, opacity=opacity)


def stems(
    x: ArrayLike, y: ArrayLike, *, color: str = figures.BLUE, label: str = "", size: float = 7.0
) -> Mark:
    """Dots on stalks that stand on 0 (on a logarithmic axis on its foot); shapes as in `line`."""
    arrays = {"x": _numbers("x", x), "y": _numbers("y", y)}
    return _mark("stems", arrays, color, label, width=1.5, size=size)


def bars(
    x: ArrayLike,
    y: ArrayLike,
    *,
    span: float = 0.8,
    color: str = figures.BLUE,
    label: str = "",
    opacity: float = 0.8,
) -> Mark:
    """Bars from 0 to y_i, as wide as `span` around x_i; shapes as in `line`."""
    middle = _numbers("x", x)
    half = span / 2
    arrays = {"left": middle - half, "right": middle + half, "y": _numbers("y", y)}
    return _mark("bars", arrays, color, label, opacity=opacity)


def band(
    x: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    color: str = figures.BLUE,
    label: str = "",
    opacity: float = 0.2,
) -> Mark:
    """The surface between two lines; shapes as in `line`."""
    arrays = {"x": _numbers("x", x), "low": _numbers("low", low), "high": _numbers("high", high)}
    return _mark("band", arrays, color, label, opacity=opacity)


def image(
    values: ArrayLike,
    *,
    limits: Limits | None = None,
    extent: tuple[float, float, float, float] | None = None,
    cmap: str = "viridis",
    label: str = "",
) -> Mark:
    """A matrix in colours, its first row at the top; at most 64 rows and columns.

    Args:
        values: shape (rows, columns), which stands still, or (…, rows, columns).
        limits: values of the first and last colour; those of all frames if not given.
        extent: coordinates of the left, right, bottom and top edge, where ticks are wanted.
        cmap: the name of a matplotlib colormap.
        label: words in the legend.
    """
    found = _numbers("values", values)
    if found.ndim < 2 or max(found.shape[-2:]) > 64:
        raise ValueError(f"values: expected shape (…, ≤ 64, ≤ 64), got {found.shape}")
    low, high = limits or (found.min(), found.max())
    if not low < high:
        raise ValueError(f"limits: expected two different values, got {low:g} and {high:g}")
    rows, columns = found.shape[-2:]
    look = {
        "limits": [float(f"{low:.4g}"), float(f"{high:.4g}")],
        "rows": rows,
        "columns": columns,
        "levels": 24,
        "cmap": cmap,
        "label": label,
    }
    return Mark("image", {"values": found}, look, 2, extent or (0, columns, rows, 0), not extent)
