"""Moving pictures: panels of lines, points, bars and images that a slider leads through frames.

A cell that ends with one is written as any figure of the book, its metadata with the name and
caption (the description for those who do not see it is the argument ``alt``)::

    mystnb: {"figure": {"name": "fig-descent", "caption": "Drag the slider: ..."}}

    times = np.linspace(0, 2, 41)
    f = np.stack([np.exp(-t) * np.sin(6 * grid) for t in times])           # (41, 200)
    moving.picture(
        moving.panel(
            moving.line(grid, np.sin(6 * grid), color=figures.GREY, label="start"),  # stands still
            moving.line(grid, f, color=figures.BLUE, label="fₜ"),          # a row per frame
            xlabel="x",
        ),
        moving.panel(moving.stems(modes, errors), title="error, mode by mode", ylog=True),
        slider={"time": [f"t = {t:.2f}" for t in times]},
        alt="A wave that shrinks to zero as time goes on.",
    )

What has one axis more than it needs moves with the slider; with two sliders (the second a width,
say) it has two axes more, in their order, and an axis of length 1 does not move with its slider.
Limits are those of all frames together, so what seems to move does move.

The page shows the first frame where nothing runs (on paper, without JavaScript). The picture needs
no kernel and no network. All numbers are stored in the notebook, rounded to what a screen can
show; its tests compute them again. Keep it light: 40 frames of 200 points are plenty.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntklib import _draw
from ntklib.marks import (
    Limits,
    Mark,
    Numbers,
    band,
    bars,
    image,
    line,
    lines,
    points,
    stems,
)

__all__ = [
    "Panel",
    "Picture",
    "band",
    "bars",
    "image",
    "line",
    "lines",
    "panel",
    "picture",
    "points",
    "stems",
]

SIDEWAYS = {"x", "left", "right"}
"""Arrays of a mark that are measured along the horizontal axis."""

LARGEST = 1_500_000
"""Characters of JSON that a picture may have."""


@dataclass(frozen=True)
class Panel:
    """One system of axes, made by `panel`.

    Attributes:
        marks: what is drawn, the first one at the back.
        settings: words, limits and ticks.
    """

    marks: tuple[Mark, ...]
    settings: dict[str, Any]


def panel(
    *marks: Mark,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    xlog: bool = False,
    ylog: bool = False,
    xticks: Mapping[float, str] | None = None,
    yticks: Mapping[float, str] | None = None,
    aspect: float | None = None,
) -> Panel:
    """Axes with marks in them, the first one at the back.

    Args:
        *marks: at least one, of `ntklib.marks`.
        title: in words.
        xlabel: what is measured to the right.
        ylabel: what is measured upwards; it stands above the axis.
        xlim: the two ends of the axis; those of all frames together if not given.
        ylim: the same.
        xlog: whether the axis is logarithmic.
        ylog: the same.
        xticks: positions and words of the ticks, where the usual ones do not do: {0: "0", π: "π"}.
        yticks: the same.
        aspect: width over height; by default 2.2, for two panels 1.35, for more 1.05, and
            beside an image its own.

    Raises:
        ValueError: no marks, or limits without extent.
    """
    if not marks:
        raise ValueError("panel: expected at least one mark")
    axes = {}
    bare = any(mark.bare for mark in marks)
    for name, limits, log, at in (("x", xlim, xlog, xticks), ("y", ylim, ylog, yticks)):
        limits = limits or _limits(name, marks, log)
        if not np.isfinite(limits).all() or limits[0] == limits[1] or (log and min(limits) <= 0):
            raise ValueError(f"{name}lim: expected two different numbers, got {limits}")
        at = {} if at is None and bare else at
        found = None if at is None else [[float(where), told] for where, told in at.items()]
        axes[name] = {"limits": [float(end) for end in limits], "log": log, "ticks": found}
    matrix = next((m.look for m in marks if m.kind == "image"), None)
    if aspect is None and matrix:
        aspect = matrix["columns"] / matrix["rows"]
    words = {"title": title, "xlabel": xlabel, "ylabel": ylabel}
    return Panel(marks, {**words, "aspect": aspect, **axes})


def _limits(name: str, marks: Sequence[Mark], log: bool) -> Limits:
    """The ends of an axis that shows every frame of every mark."""
    edges = next((mark.extent for mark in marks if mark.extent), None)
    if edges:
        return edges[:2] if name == "x" else edges[2:]
    found = [v for m in marks for key, v in m.arrays.items() if (key in SIDEWAYS) == (name == "x")]
    low, high = (float(pick([pick(v[~np.isnan(v)]) for v in found])) for pick in (np.min, np.max))
    if log:
        if low <= 0:
            raise ValueError(f"{name}log: expected positive numbers, the smallest is {low:g}")
        margin = (high / low) ** 0.04 if high > low else 2.0
        return float(f"{low / margin:.3g}"), float(f"{high * margin:.3g}")
    if name == "y" and any(mark.kind in ("bars", "stems") for mark in marks):
        low, high = min(low, 0.0), max(high, 0.0)
    span = high - low or abs(high) or 1.0
    # A line runs from edge to edge; what has a width needs room.
    tight = name == "x" and all(mark.kind in ("line", "band") for mark in marks)
    margin = 0.0 if tight and high > low else 0.05 * span
    digits = 3 - int(np.floor(np.log10(span)))
    return round(float(low - margin), digits), round(float(high + margin), digits)


@dataclass(frozen=True)
class Picture:
    """A moving picture, made by `picture`; in a notebook it shows itself.

    Attributes:
        data: all that is drawn, as JSON.
    """

    data: dict[str, Any]

    def __repr__(self) -> str:
        return f"Moving picture: {self.data['alt']}"

    def _repr_html_(self) -> str:
        return _draw.html(self.data)


def picture(
    *panels: Panel,
    slider: Mapping[str, Sequence[str]],
    alt: str,
    first: int | Sequence[int] = 0,
    notes: Sequence[str] | Sequence[Sequence[str]] | None = None,
    seconds: float = 6.0,
) -> Picture:
    """Panels side by side, led through their frames by one slider or two.

    Args:
        *panels: at least one, of `panel`.
        slider: the name of a slider and the label of each of its frames; the arrays' first axis
            follows the first one. The button for playing moves the first.
        alt: what is seen, and what happens, in a sentence or two.
        first: the frame that is shown first, and on paper: its index, with two sliders the
            pair of them.
        notes: a sentence below the picture for every frame; with two sliders a row for each
            frame of the first.
        seconds: how long the whole film lasts.

    Raises:
        TypeError: entries that are not real numbers.
        ValueError: shapes that do not fit the sliders, or more data than a page should carry.
    """
    frames = tuple(len(labels) for labels in slider.values())
    if len(frames) not in (1, 2) or min(frames) < 2:
        raise ValueError(f"slider: expected one or two, with at least 2 frames, got {frames}")
    start = [first, 0][: len(frames)] if isinstance(first, int) else [int(i) for i in first]
    if len(start) != len(frames) or not all(0 <= i < n for i, n in zip(start, frames, strict=True)):
        raise ValueError(f"first: expected a frame of {frames}, got {first}")
    if not panels:
        raise ValueError("picture: expected at least one panel")
    if len(alt.split()) < 3:
        raise ValueError("alt: expected a description of what is seen")
    told = None if notes is None else np.asarray(notes)
    if told is not None and told.shape != frames:
        raise ValueError(f"notes: expected shape {frames}, got {told.shape}")
    # The first panel with a shape of its own, an image say, gives it to the others.
    usual = next(
        (panel.settings["aspect"] for panel in panels if panel.settings["aspect"]),
        {1: 2.2, 2: 1.35}.get(len(panels), 1.05),
    )
    data = {
        "alt": alt,
        "sliders": [{"name": name, "labels": list(labels)} for name, labels in slider.items()],
        "first": start,
        "seconds": seconds,
        "notes": None if told is None else told.ravel().tolist(),
        "panels": [
            {
                **each.settings,
                "aspect": each.settings["aspect"] or usual,
                "marks": [_stored(mark, each.settings, frames) for mark in each.marks],
            }
            for each in panels
        ],
    }
    size = len(json.dumps(data))
    if size > LARGEST:
        raise ValueError(
            f"picture: expected at most {LARGEST} characters of data, got {size}; "
            "fewer frames or points look the same"
        )
    return Picture(data)


def _stored(mark: Mark, axes: Mapping[str, Any], frames: tuple[int, ...]) -> dict[str, Any]:
    """A mark as JSON: each array as a list with the values of each frame that it has."""
    arrays = {}
    for name, array in mark.arrays.items():
        lead = array.shape[: array.ndim - mark.trailing] or (1,) * len(frames)
        if len(lead) != len(frames) or any(
            n not in (1, m) for n, m in zip(lead, frames, strict=False)
        ):
            raise ValueError(
                f"{mark.kind}, {name}: expected frames {frames} before the last axes, "
                f"got shape {array.shape}"
            )
        if mark.kind == "image":
            axis = {"limits": mark.look["limits"], "log": False}
        else:
            axis = axes["x" if name in SIDEWAYS else "y"]
        rows = array.reshape(int(np.prod(lead)), -1)
        arrays[name] = {"frames": list(lead), "values": [_rounded(row, axis) for row in rows]}
    return {"kind": mark.kind, **mark.look, "arrays": arrays}


def _rounded(row: Numbers, axis: Mapping[str, Any]) -> list[float | int | None]:
    """Numbers to a ten-thousandth of the axis, or to five digits if that is logarithmic."""
    if axis["log"]:
        kept = [float(f"{v:.5g}") for v in row]
    else:
        span = abs(axis["limits"][1] - axis["limits"][0])
        kept = np.round(row, 4 - int(np.floor(np.log10(span)))).tolist()
    return [None if np.isnan(v) else int(v) if v == int(v) else v for v in kept]
