"""Every colour of the book's figures is legible on both pages; the style is the one stated."""

import itertools
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ntklib import figures

matplotlib.use("agg")

LEGIBLE = 3.0
"""WCAG 2.1, success criterion 1.4.11: contrast of graphics."""


def luminance(colour):
    """Relative luminance of WCAG 2.1."""
    c = np.asarray(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def confused(colour, missing):
    """Linear sRGB as seen without the L or the M cone (Viénot, Brettel and Mollon 1999)."""
    c = np.asarray(to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    seen = {
        "L": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
        "M": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    }[missing]
    return np.asarray(seen) @ linear


def test_contrast_knows_black_and_white():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.01)
    assert contrast("gold", figures.PAGES["light"]) < LEGIBLE


@pytest.mark.parametrize("page", figures.PAGES)
def test_every_colour_is_legible(page):
    colours = {figures.INK, *figures.CYCLE, *figures.sequence(1), *figures.sequence(64)}
    faint = {c for c in colours if contrast(c, figures.PAGES[page]) < LEGIBLE}
    assert not faint


@pytest.mark.parametrize("missing", ["L", "M"])
def test_no_two_of_the_first_three_are_confused_without_one_cone(missing):
    for one, other in itertools.combinations(figures.CYCLE[:3], 2):
        assert np.linalg.norm(confused(one, missing) - confused(other, missing)) > 0.1


def test_sequence_is_ordered_in_blue_and_luminance():
    colours = figures.sequence(8)
    assert len(set(colours)) == 8
    blue = [to_rgb(c)[2] for c in colours]
    assert all(np.diff(blue) < 0)
    assert figures.sequence(1) == [colours[0]]


@pytest.mark.parametrize("n", [0, -1])
def test_sequence_names_a_wrong_count(n):
    with pytest.raises(ValueError, match="n: expected at least 1"):
        figures.sequence(n)


def test_a_figure_is_transparent_and_in_the_style(tmp_path):
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(), warnings.catch_warnings(action="error"):
        figures.use()
        fig, ax = plt.subplots()
        (first,) = ax.plot([0, 1], [0, 1], label=r"$\alpha \in \mathcal{H}$")
        ax.set_title(r"$\lambda_i \to 0$")
        ax.legend()
        fig.savefig(tmp_path / "figure.png")
        pixels = plt.imread(tmp_path / "figure.png")
        plt.close(fig)
    assert first.get_color() == figures.BLUE
    assert not ax.spines["top"].get_visible()
    assert pixels.shape[:2] == (figures.WIDE[1] * 96, figures.WIDE[0] * 96)
    assert pixels[0, 0, 3] == 0
    assert (pixels[..., 3] == 0).mean() > 0.5
