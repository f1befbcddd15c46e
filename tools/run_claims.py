"""Run the code cells of notebooks up to their last claim, in one plain process.

What the tests of the claims and the mutation tests need: the exit status is 1, and the last line
printed names the error, as soon as a cell fails. Nothing is stored or compared.
"""

import contextlib
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
from IPython.core.interactiveshell import InteractiveShell


def run(path: Path) -> None:
    """Run a notebook's cells in its folder, in a fresh namespace; raises what a cell raises."""
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    last = max((i for i, source in enumerate(cells) if "verify(" in source), default=-1)
    shell = InteractiveShell()
    with contextlib.chdir(path.parent):
        for source in cells[: last + 1]:
            shell.run_cell(source).raise_error()
            plt.close("all")


if __name__ == "__main__":
    matplotlib.use("agg")
    for name in sys.argv[1:]:
        try:
            run(Path(name))
        except Exception as error:
            print(f"{Path(name).name}: {type(error).__name__}: {error}")
            sys.exit(1)
