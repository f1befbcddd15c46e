"""Build the book from scratch, warnings being errors, and say where to open it."""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"


def pages(toc: dict) -> list[str]:
    """The files that a table of contents names, in reading order."""
    found = [toc[key] for key in ("root", "file") if key in toc]
    for key in ("parts", "chapters", "sections"):
        for entry in toc.get(key, []):
            found += pages(entry)
    return found


def main() -> int:
    # Pages that are no longer in the book would stay.
    shutil.rmtree(HTML, ignore_errors=True)
    # --all: a page that is not read again would not repeat its warnings.
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "--all"]
    built = subprocess.run([*command, "-n", "-W", "--keep-going"], cwd=ROOT)
    if built.returncode:
        return built.returncode
    # A wrong version of the builder exits 0 having built nothing.
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    missing = [page for page in pages(toc) if not (HTML / page).with_suffix(".html").is_file()]
    if missing:
        print(f"These pages were not built: {', '.join(missing)}", file=sys.stderr)
        return 1
    print(f"{len(pages(toc))} pages. Open {(HTML / 'index.html').as_uri()} or run 'make serve'.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
