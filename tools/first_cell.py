"""Write the first code cell of every chapter from the repository's address in _config.yml.

The cell fetches the package where it is missing, on Colab say. While the address is empty, and
wherever the package is installed, it does nothing.
"""

from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent

CELL = """\
# Fetch ntklib where it is missing, on Colab say; anywhere else this does nothing.
import importlib.util

repository = "{url}"
if repository and importlib.util.find_spec("ntklib") is None:
    %pip install -q "ntklib[book] @ git+{{repository}}\""""


def first_cell(root: Path = ROOT) -> str:
    """The text of the cell for the address that a book's configuration names."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return CELL.format(url=config["repository"]["url"])


def main() -> None:
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
        if "import importlib.util" in cell.source:
            cell.source = first_cell()
        else:
            cell = nbformat.v4.new_code_cell(first_cell(), metadata={"tags": ["remove-cell"]})
            notebook.cells.insert(1, cell)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
