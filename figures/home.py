"""Draws the picture of the home page, figures/home.png.

python figures/home.py [OUTPUT]
"""

import sys
from pathlib import Path

import jax
import matplotlib
import numpy as np
from matplotlib.colors import to_rgba

matplotlib.use("agg")
import matplotlib.pyplot as plt

from ntklib import figures
from ntklib.rkhs import RBF, interpolate

jax.config.update("jax_enable_x64", True)


def draw(path: Path) -> None:
    """The least function of an RKHS through seven points, and the seven bumps it is made of."""
    figures.use()
    x = np.array([0.4, 1.5, 2.7, 4.0, 5.2, 6.4, 7.6])[:, None]
    y = np.array([0.8, 1.4, 0.9, -0.9, -0.8, 0.9, 0.9])
    f = interpolate(RBF(length_scale=0.75), x, y)
    t = np.linspace(-1.4, 9.6, 600)[:, None]
    bumps = f.kernel(t, f.centres) * f.coefficients

    fig, ax = plt.subplots(figsize=(7.4, 3.4))
    for bump, colour in zip(bumps.T, figures.sequence(len(x)), strict=True):
        ax.fill_between(t[:, 0], bump, facecolor=to_rgba(colour, 0.14), lw=0)
        ax.plot(t, bump, color=colour, lw=1.1)
    ax.plot(t, f(t), color=figures.BLUE, lw=3)
    ax.plot(x, y, "o", color=figures.ORANGE, ms=8)
    ax.axhline(0, color=figures.INK, lw=0.8)
    ax.set(xlim=(t.min(), t.max()))
    ax.axis("off")
    fig.savefig(path, dpi=192, metadata={"Software": None})
    plt.close(fig)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png"))
