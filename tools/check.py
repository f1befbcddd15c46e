"""Run every check of the book, or with --fast those that need neither browser nor notebooks.

A part that fails does not stop the others: one run tells all. The table at the end gives the
seconds of each part and the closing line of pytest; the exit status is 1 if any part failed.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-q"]
CELL_TIMEOUT = 120  # seconds
CHAPTERS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("chapters/*.ipynb"))
CLOSING = re.compile(r"^=*\s*((?:\d+ \w+(?:, )?)+|no tests ran)\b.* in [\d.]+s.*$")


class Part(NamedTuple):
    """A named list of commands; `fast` ones also run in `make check`."""

    name: str
    commands: list[list[str]]
    fast: bool = False
    environment: tuple[tuple[str, str], ...] = ()


def ruff(*arguments: str) -> list[str]:
    return [PYTHON, "-m", "ruff", *arguments, "."]


def stored_outputs() -> list[str]:
    # One worker a notebook, since the cells of a notebook share a kernel.
    workers = ["-n", "2", "--dist", "loadscope"] if len(CHAPTERS) > 1 else []
    nbval = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    return [*PYTEST, "-p", "tools.nbval_pictures", *nbval, *workers, *CHAPTERS]


MODULE_TESTS = [*PYTEST, "-n", "2", "tests", "--ignore=tests/book"]
BITE_TESTS = ["tests/book/test_bite.py"]
BROWSER_TESTS = ["tests/book/test_site.py", "tests/book/test_pictures.py"]

PARTS = [
    Part("format and lint", [ruff("format", "--check"), ruff("check")], fast=True),
    Part("types", [[PYTHON, "-m", "mypy"]], fast=True),
    Part("tests in float32", [MODULE_TESTS], environment=(("JAX_ENABLE_X64", "0"),)),
    Part("tests in float64", [MODULE_TESTS], fast=True, environment=(("JAX_ENABLE_X64", "1"),)),
    Part(
        "notebooks and claims",
        [[*PYTEST, "tests/book", *(f"--ignore={path}" for path in BITE_TESTS + BROWSER_TESTS)]],
        fast=True,
    ),
    Part("stored outputs, nbval", [stored_outputs()]),
    Part("claims bite", [[*PYTEST, "-n", "2", *BITE_TESTS]]),
    Part("book", [[PYTHON, "tools/build.py"]]),
    Part("browser", [[*PYTEST, "-n", "2", *BROWSER_TESTS]]),
]


def run(command: list[str], environment: tuple[tuple[str, str], ...]) -> tuple[bool, str]:
    """Run a command, pass its output on, and return its success and pytest's closing line."""
    print("$", *(Path(word).name if word == PYTHON else word for word in command), flush=True)
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", **dict(environment)}
    closing = ""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if CLOSING.match(line.strip()):
                closing = line.strip()
    return process.returncode == 0, closing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="only the fast parts")
    fast = parser.parse_args().fast
    rows = []
    for part in PARTS:
        if fast and not part.fast:
            continue
        print(f"\n--- {part.name}", flush=True)
        start = time.monotonic()
        results = [run(command, part.environment) for command in part.commands]
        passed = all(success for success, _ in results)
        closing = " ".join(line for _, line in results if line)
        rows.append((part.name, time.monotonic() - start, passed, closing))
    print(f"\n{'part':<24}{'seconds':>8}  result")
    for name, seconds, passed, closing in rows:
        print(f"{name:<24}{seconds:>8.1f}  {'ok    ' if passed else 'FAILED'}  {closing}".rstrip())
    red = [name for name, _, passed, _ in rows if not passed]
    print(f"{'all':<24}{sum(row[1] for row in rows):>8.1f}  {'FAILED' if red else 'ok'}")
    for _, _, _, closing in rows:
        if closing:
            print(closing)
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
