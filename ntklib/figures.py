"""The one style of the book's figures: transparent, and legible on a light and a dark page.

    from ntklib import figures

    figures.use()
    fig, ax = plt.subplots(figsize=figures.WIDE)
    ax.plot(x, y, color=figures.BLUE)

A picture is stored once and shown on both pages, so every colour here has a contrast of at
least 3:1 against both (the floor WCAG 2.1 sets for graphics); the tests compute it.
"""

import sys

import matplotlib
from cycler import cycler
from matplotlib.colors import LinearSegmentedColormap, to_hex

__all__ = [
    "BLUE",
    "CYCLE",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "PAGES",
    "PAIR",
    "PURPLE",
    "RED",
    "SQUARE",
    "TALL",
    "WIDE",
    "sequence",
    "use",
]

PAGES = {"light": "#fdfcf9", "dark": "#16181d"}
"""Background of the page in each theme."""

INK = "#7b8087"
"""Axes, ticks and text: near the best contrast that one grey can have on both pages (4:1)."""

BLUE = "#3a83c4"
"""First colour of the cycle: the thing that a figure is about."""
ORANGE = "#c9741a"
"""Second colour: what it is compared with."""
GREEN = "#2f9170"
"""Third colour."""
PURPLE = "#9b6bc4"
"""Fourth colour."""
RED = "#d0534f"
"""Fifth colour: what fails."""
GREY = "#868b91"
"""Sixth colour: data, truth, anything in the background."""

CYCLE = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
"""The colours that successive lines take."""

WIDE = (7.0, 3.0)
"""Size, in inches, of a figure across the text column: two or three panels, a curve."""
TALL = (7.0, 4.8)
"""Across the text column, with two rows of panels."""
PAIR = (7.0, 3.4)
"""Across the text column, two square panels side by side."""
SQUARE = (4.4, 4.0)
"""One square panel, half of the text column."""


def sequence(n: int) -> list[str]:
    """n colours in order, from blue over purple to orange, for a parameter that grows.

    Args:
        n: how many, at least 1.

    Returns:
        A list of n hexadecimal colours, each legible on both pages.

    Raises:
        ValueError: if n < 1.
    """
    if n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    ramp = LinearSegmentedColormap.from_list("ramp", ["#4a74d8", "#9a5fc6", "#cf5583", "#d07a1f"])
    return [to_hex(ramp(i / max(n - 1, 1))) for i in range(n)]


def use() -> None:
    """Set matplotlib's parameters, and in a notebook ask for two pixels per point of screen."""
    matplotlib.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.edgecolor": INK,
            "axes.facecolor": "none",
            "axes.grid": True,
            "axes.labelcolor": INK,
            "axes.linewidth": 0.8,
            "axes.prop_cycle": cycler(color=CYCLE),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlecolor": INK,
            "axes.titlelocation": "left",
            "axes.titlesize": 10.5,
            "figure.constrained_layout.use": True,
            "figure.dpi": 96,
            "figure.facecolor": "none",
            "figure.figsize": WIDE,
            "font.family": "DejaVu Sans",
            "font.size": 9.5,
            "grid.alpha": 0.22,
            "grid.color": INK,
            "grid.linewidth": 0.6,
            "hatch.color": INK,
            "image.cmap": "viridis",
            "legend.edgecolor": INK,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "mathtext.fontset": "dejavusans",
            "patch.edgecolor": INK,
            "savefig.facecolor": "none",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    )
    if "IPython" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")  # type: ignore[no-untyped-call]
