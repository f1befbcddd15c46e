"""Execute chapters in place: each cell is told as it ends, and a failure leaves the file alone."""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

CELL_TIMEOUT = 300  # seconds


def execute(path: Path) -> None:
    """Store the outputs of one notebook; raises CellExecutionError at the first failing cell."""
    notebook = nbformat.read(path, as_version=4)
    start = time.monotonic()

    def tell(cell: nbformat.NotebookNode, cell_index: int, **_: object) -> None:
        seconds = time.monotonic() - start
        print(f"{path.stem}: cell {cell_index + 1} of {len(notebook.cells)}, {seconds:.0f} s")

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": path.parent}},
        # Times and the Python's version would make every execution a change of the file.
        record_timing=False,
        coalesce_streams=True,
        on_cell_executed=tell,
    )
    client.execute()
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    temporary = path.with_suffix(".executed")
    nbformat.write(notebook, temporary)
    temporary.replace(path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        execute(Path(name))
