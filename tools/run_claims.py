"""Run the code cells of notebooks up to their last claim, or a named one, in one plain process.

What the tests of the claims and the mutation tests need: the exit status is 1, and the last line
printed names the error, as soon as a cell fails. Nothing is stored or compared.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
from IPython.core.interactiveshell import InteractiveShell


def run(path: Path, until: str = "") -> None:
    """Run a notebook's cells in its folder, in a fresh namespace; raises what a cell raises."""
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    claim = f'verify("{until}"' if until else "verify("
    last = max((i for i, source in enumerate(cells) if claim in source), default=-1)
    if until and last < 0:
        raise ValueError(f"until: no claim {until} in {path.name}")
    shell = InteractiveShell()
    with contextlib.chdir(path.parent):
        for source in cells[: last + 1]:
            shell.run_cell(source).raise_error()
            plt.close("all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--until", default="", metavar="LABEL", help="the last claim to check")
    given = parser.parse_args()
    matplotlib.use("agg")
    for notebook in given.notebooks:
        try:
            run(notebook, given.until)
        except Exception as error:
            print(f"{notebook.name}: {type(error).__name__}: {error}")
            sys.exit(1)
