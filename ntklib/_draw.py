"""The HTML of a moving picture: one frame drawn, all frames as JSON, and the player.

`html` is a function of the JSON alone, so that what is stored can be drawn again. The paths that
`moving.js` puts in the place of those here, for other frames, are made in the same way.
"""

import json
import math
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.ticker import LogLocator, MaxNLocator

Json = dict[str, Any]
Numbers = np.ndarray[Any, np.dtype[np.float64]]

SIDE = 10_000
"""A panel is a square of this side, stretched to its size on the screen."""

LINE_AND_DOT = ("width", "size")

PLAY, PAUSE = "M3 1v14l11-7z", "M3 1h4v14h-4zM9 1h4v14h-4z"


def colours(name: str, levels: int) -> list[str]:
    """Colours of the levels of an image, from the matplotlib colormap of the name."""
    return [to_hex(c) for c in matplotlib.colormaps[name](np.linspace(0, 1, levels))]


def place(frames: list[int], now: list[int]) -> int:
    """Where the values of a frame stand in a list of those that an array has."""
    at = 0
    for n, i in zip(frames, now, strict=True):
        at = at * n + (i if n > 1 else 0)
    return at


def across(axis: Json, values: Any) -> Numbers:
    """Whole numbers from 0 to SIDE along an axis; NaN where there is no value."""
    start, end = axis["limits"]
    v = np.asarray(values, float)
    if axis["log"]:
        start, end, v = math.log10(start), math.log10(end), np.log10(v)
    found: Numbers = np.clip(SIDE * (v - start) / (end - start), -3 * SIDE, 4 * SIDE)
    return np.floor(found + 0.5)


def up(axis: Json, values: Any) -> Numbers:
    """The same, from bottom to top, while SVG counts from the top."""
    start, end = axis["limits"]
    return across({**axis, "limits": [end, start]}, values)


def walk(x: Numbers, y: Numbers) -> str:
    """The path through points, with gaps at NaN."""
    path, pen = "", "M"
    for a, b in zip(x, y, strict=True):
        if math.isnan(a + b):
            pen = "M"
        else:
            path, pen = f"{path}{pen}{a:.0f} {b:.0f}", "L"
    return path


def paths(panel: Json, mark: Json, now: list[int]) -> list[str]:
    """The paths of a mark in one frame."""
    found = {name: a["values"][place(a["frames"], now)] for name, a in mark["arrays"].items()}
    if mark["kind"] == "image":
        return cells(mark, np.asarray(found["values"], float))
    sideways = {n: across(panel["x"], v) for n, v in found.items() if n in ("x", "left", "right")}
    height = {n: up(panel["y"], v) for n, v in found.items() if n not in sideways}
    x = sideways.get("x", np.zeros(0))
    foot = up(panel["y"], panel["y"]["limits"][0] if panel["y"]["log"] else 0)
    if mark["kind"] == "band":
        back = walk(x[::-1], height["high"][::-1]).replace("M", "L", 1)
        return [walk(x, height["low"]) + back + "z"]
    y = height["y"]
    match mark["kind"]:
        case "line":
            return [walk(x, y)]
        case "points" | "stems":
            there = [(a, b) for a, b in zip(x, y, strict=True) if not math.isnan(a + b)]
            stems = "".join(f"M{a:.0f} {foot:.0f}V{b:.0f}" for a, b in there)
            dots = "".join(f"M{a:.0f} {b:.0f}h0" for a, b in there)
            return [dots] if mark["kind"] == "points" else [stems, dots]
        case "bars":
            sides = zip(sideways["left"], sideways["right"], y, strict=True)
            return [
                "".join(f"M{a:.0f} {foot:.0f}V{b:.0f}H{c:.0f}V{foot:.0f}z" for a, c, b in sides)
            ]
    raise ValueError(f"kind: unknown mark {mark['kind']!r}")


def cells(mark: Json, values: Numbers) -> list[str]:
    """An image: one path for all cells of a level."""
    rows, columns, levels = mark["rows"], mark["columns"], mark["levels"]
    low, high = mark["limits"]
    level = np.clip(np.floor(levels * (values - low) / (high - low)), 0, levels - 1)
    edges = {n: np.floor(SIDE * np.arange(n + 1) / n + 0.5) for n in (rows, columns)}
    found = [""] * levels
    for k, which in enumerate(level.astype(int)):
        row, column = divmod(k, columns)
        left, right = edges[columns][column : column + 2]
        top, bottom = edges[rows][row : row + 2]
        found[which] += f"M{left:.0f} {top:.0f}H{right:.0f}V{bottom:.0f}H{left:.0f}z"
    return found


def strokes(mark: Json) -> list[str]:
    """The attributes of the paths of a mark, in the order of `paths`."""
    if mark["kind"] == "image":
        ramp = colours(mark["cmap"], mark["levels"])
        return [f'style="fill:{c}" shape-rendering="crispEdges"' for c in ramp]
    colour, faint = mark["color"], f'opacity="{mark["opacity"]:g}"'
    fill = f'style="fill:{colour}" {faint}'
    thin, thick = (f'stroke="{colour}" stroke-width="{mark[n]:g}" {faint}' for n in LINE_AND_DOT)
    return {"line": [thin], "points": [thick], "stems": [thin, thick]}.get(mark["kind"], [fill])


# --- ticks


def ticks(axis: Json, most: int) -> list[tuple[float, str]]:
    """Positions on an axis and their labels, as HTML."""
    if axis["ticks"] is not None:
        return [(at, escape(told)) for at, told in axis["ticks"]]
    low, high = sorted(axis["limits"])
    if axis["log"]:
        decades = math.log10(high / low)
        subs = (1.0,) if decades > 2 else (1.0, 3.0) if decades > 1 else (1.0, 2.0, 5.0)
        found = LogLocator(subs=subs, numticks=most + 1).tick_values(low, high)
    else:
        found = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    inside = [float(at) for at in found if low - slack <= at <= high + slack]
    return [(at, label(at, axis["log"], high)) for at in inside]


def label(at: float, log: bool, high: float) -> str:
    if log and not 1e-3 <= at <= 1e4:
        power = math.floor(math.log10(at) + 1e-9)
        factor = at / 10**power
        times = "" if math.isclose(factor, 1) else f"{factor:.0f}·"
        return f"{times}10<sup>{minus(power)}</sup>"
    return minus(0.0 if abs(at) < 1e-9 * abs(high) else at)


def minus(number: float) -> str:
    return f"{number:.6g}".replace("-", "−")


# --- the page


@cache
def package(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()


def legend(panel: Json) -> str:
    shown = []
    for mark in panel["marks"]:
        told = escape(mark["label"])
        if mark["kind"] == "image":
            low, high = (minus(v) for v in mark["limits"])
            ramp = ", ".join(colours(mark["cmap"], 7))
            bar = f'<i class="moving-ramp" style="background: linear-gradient(90deg, {ramp})"></i>'
            shown.append(f"<span>{told} {low}{bar}{high}</span>")
        elif told:
            name = {"points": "moving-dot", "bars": "moving-block", "band": "moving-block"}
            look = f'class="{name.get(mark["kind"], "moving-line")}"'
            faint = f"; opacity: {max(mark['opacity'], 0.3):g}" if mark["kind"] == "band" else ""
            swatch = f'<i {look} style="background: {mark["color"]}{faint}"></i>'
            shown.append(f"<span>{swatch}{told}</span>")
    return f'<div class="moving-legend">{" ".join(shown)}</div>' if shown else ""


def plot(panel: Json, now: list[int], many: bool, named: bool) -> str:
    """One panel: title, legend, axes and marks."""
    x_ticks = ticks(panel["x"], 4 if many else 7)
    y_ticks = ticks(panel["y"], 5)
    x_at = [(float(across(panel["x"], at)), told) for at, told in x_ticks]
    y_at = [(float(up(panel["y"], at)), told) for at, told in y_ticks]
    grid = (
        ""
        if any(m["kind"] == "image" for m in panel["marks"])
        else (
            "".join(f"M{at:.0f} 0V{SIDE}" for at, _ in x_at)
            + "".join(f"M0 {at:.0f}H{SIDE}" for at, _ in y_at)
        )
    )
    drawn = [f'<path class="moving-grid" d="{grid}"/>']
    for mark in panel["marks"]:
        both = zip(strokes(mark), paths(panel, mark, now), strict=True)
        drawn.append("<g data-mark>" + "".join(f'<path {s} d="{d}"/>' for s, d in both) + "</g>")
    told = "".join(
        f'<span class="moving-{name}" style="--at: {part:.4g}%">{text}</span> '
        for name, found in (
            ("x", [(at / SIDE * 100, text) for at, text in x_at]),
            ("y", [(100 - at / SIDE * 100, text) for at, text in y_at]),
        )
        for part, text in found
    )
    gutter = max((len(re.sub(r"<.*?>", "", text)) for _, text in y_ticks), default=0)
    return (
        '<div class="moving-panel">'
        + (f'<div class="moving-title">{escape(panel["title"])}</div>' if panel["title"] else "")
        + legend(panel)
        + (f'<div class="moving-ylabel">{escape(panel["ylabel"])}</div>' if panel["ylabel"] else "")
        + f'<div class="moving-frame" style="--gutter: {gutter}ch">'
        + f'<div class="moving-plot" style="--aspect: {panel["aspect"]:g}; '
        + f'--height: {10 if many else 15}em">'
        + f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" aria-hidden="true">'
        + "".join(drawn)
        + '</svg><div class="moving-axes"></div>'
        + f'<div class="moving-ticks">{told}</div></div>'
        # As high as its neighbours', so that the axes stand on one line.
        + f'<div class="moving-xlabel">{escape(panel["xlabel"]) or "&nbsp;" * named}</div></div>'
        + "</div>"
    )


def controls(data: Json) -> str:
    """The sliders, hidden until the player shows them, and the label of the frame."""
    rows = []
    for slider, first in zip(data["sliders"], data["first"], strict=True):
        labels = [escape(told) for told in slider["labels"]]
        widest = max(map(len, slider["labels"]))
        rows.append(
            f"<label hidden><span>{escape(slider['name'])}</span>"
            f'<input type="range" min="0" max="{len(labels) - 1}" step="1" value="{first}" '
            f'autocomplete="off" aria-valuetext="{labels[first]}"></label>'
            f'<span class="moving-at" style="--widest: {widest}ch">{labels[first]}</span>'
        )
    button = (
        '<button type="button" hidden aria-label="Play" '
        f'data-play="{PLAY}" data-pause="{PAUSE}"><svg viewBox="0 0 16 16" aria-hidden="true">'
        f'<path d="{PLAY}"/></svg></button>'
    )
    return f'<div class="moving-controls">{button}{"".join(rows)}</div>'


def html(data: Json) -> str:
    """The whole picture, as the output of a cell."""
    many = len(data["panels"]) > 1
    least = {1: "100%", 2: "17rem"}.get(len(data["panels"]), "13rem")
    named = any(panel["xlabel"] for panel in data["panels"])
    panels = "".join(plot(panel, data["first"], many, named) for panel in data["panels"])
    note = ""
    if data["notes"]:
        now = place([len(slider["labels"]) for slider in data["sliders"]], data["first"])
        note = f'<div class="moving-note">{escape(data["notes"][now])}</div>'
    stored = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    stored = stored.replace("<", "\\u003c")  # no label can end the script
    return (
        f'<style>{package("moving.css")}</style>\n<div class="moving">'
        f'<div class="moving-panels" role="img" aria-label="{escape(data["alt"])}" '
        f'style="--least: {least}">{panels}</div>{controls(data)}{note}'
        '<div class="moving-heard" aria-live="polite"></div>\n'
        f'<script type="application/json" class="moving-data">{stored}</script></div>\n'
        f"<script>{package('moving.js')}</script>"
    )


def stored_data(text: str) -> Json:
    """The JSON in the HTML of a moving picture.

    Raises:
        ValueError: the text holds none.
    """
    found = re.search(r'<script type="application/json" class="moving-data">(.*?)</script>', text)
    if not found:
        raise ValueError("text: expected the HTML of a moving picture")
    data: Json = json.loads(found[1])
    return data
