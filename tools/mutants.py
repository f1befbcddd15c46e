"""Count the random mutants of each module that its tests kill, and that the claims kill alone.

A mutant is one small change of the code, made by cosmic-ray in a copy of the tree that only this
run uses. Mutants that tell nothing are left out: changes of annotations; decorators that only
compile or only speak to type checkers; ``==`` changed into ``is`` and the like, which differ by
luck; and what dies of itself, code that does not parse, cannot be imported, or has bitwise
operators among floats.
From the rest a seeded sample is drawn, the same for both judges. A mutant that could not be run is
no kill: it stops the count. Results are kept in a database per module and judge below
_build/mutants, so that an interrupted count goes on where it stopped; a change of the code, the
tests, the chapters or this file begins anew.
"""

import argparse
import ast
import hashlib
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test, mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build" / "mutants"
COPIED = ("ntklib", "tests", "tools", "chapters", "pyproject.toml")
SKIPPED = WorkResult(worker_outcome=WorkerOutcome.SKIPPED)
UNTOLD = re.compile(
    r"ReplaceComparisonOperator_(\w+_Is(Not)?|Is_Eq|IsNot_NotEq)$"
    r"|ReplaceBinaryOperator_\w+_(BitOr|BitAnd|BitXor|LShift|RShift)$"
)
INERT_DECORATORS = {"jax.jit", "dataclass_transform", "override"}

Place = tuple[int, int]


# A private module that is tested through the one that offers it.
TESTED_WITH = {"_compare": "verify", "_draw": "moving", "marks": "moving"}


def tests_of(module: str) -> str:
    """The command of the module's unit tests, or of all where the module has no file of its own."""
    own = f"tests/test_{TESTED_WITH.get(module, module).strip('_')}.py"
    paths = [own] if Path(own).is_file() else ["tests", "--ignore=tests/book"]
    return shlex.join(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths]
    )


def claims_of(module: str) -> str:
    """The command of the chapters' claims, those of the module's chapter first."""
    chapters = sorted(Path("chapters").glob("*.ipynb"), key=lambda path: path.stem != module)
    return shlex.join([sys.executable, "tools/run_claims.py", *map(str, chapters)])


JUDGES = {"tests": tests_of, "claims": claims_of}

# What a judge says when it has judged: a test or a chapter failed, or took far too long.
JUDGED = re.compile(r"^(FAILED |ERROR tests/\S+::|\w+\.ipynb: |timeout$)", re.MULTILINE)


def inert_places(source: str) -> Iterator[tuple[Place, Place]]:
    """Where a change cannot matter: annotations and inert decorators, as (start, end)."""
    for node in ast.walk(ast.parse(source)):
        found = [getattr(node, name, None) for name in ("annotation", "returns")]
        for decorator in getattr(node, "decorator_list", []):
            name = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(name) in INERT_DECORATORS:
                found.append(decorator)
        for place in found:
            if place is not None:
                # The position of a decorator begins at its @, a column before its name.
                start = (place.lineno, place.col_offset - 1)
                yield start, (place.end_lineno, place.end_col_offset)


def parses(source: str, mutation: MutationSpec) -> bool:
    operator = get_operator(mutation.operator_name)()
    try:
        ast.parse(mutate_code(source, operator, mutation.occurrence))
    except SyntaxError:
        return False
    return True


def matters(source: str, mutation: MutationSpec, inert: list[tuple[Place, Place]]) -> bool:
    start = tuple(mutation.start_pos)
    told = not UNTOLD.search(mutation.operator_name) and not any(a <= start < b for a, b in inert)
    return told and parses(source, mutation)


def draw(db: WorkDB, module: Path, size: int, seed: int) -> None:
    """Fill an empty session with the mutants of a module and skip all but a sample."""
    init([module], db, {})
    source = module.read_text(encoding="utf-8")
    inert = list(inert_places(source))
    items = sorted(
        db.work_items,
        key=lambda item: (item.mutations[0].operator_name, item.mutations[0].occurrence),
    )
    eligible = [item.job_id for item in items if matters(source, item.mutations[0], inert)]
    chosen = set(random.Random(seed).sample(eligible, min(size, len(eligible))))
    db.set_multiple_results([item.job_id for item in items if item.job_id not in chosen], SKIPPED)


def check_unchanged(command: str) -> float:
    """Seconds that the judge takes on the unchanged copy; exits if it fails there."""
    start = time.monotonic()
    done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The unchanged code fails:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return time.monotonic() - start


def judge(session: Path, module: Path, name: str, size: int, seed: int) -> list[WorkResult]:
    """Run one judge on the sample of one module, as far as that was not done before."""
    command = JUDGES[name](module.stem)
    with use_db(session) as db:
        if not db.num_work_items:
            draw(db, module, size, seed)
        pending = list(db.pending_work_items)
        if pending:
            limit = 30 + 5 * check_unchanged(command)
        for i, item in enumerate(pending, start=1):
            result = mutate_and_test(item.mutations, command, limit)
            if result.test_outcome not in (TestOutcome.KILLED, TestOutcome.SURVIVED):
                sys.exit(f"This mutant could not be run:\n{result.output}")
            if result.test_outcome == TestOutcome.KILLED and not JUDGED.search(result.output):
                # Nothing was tried: the package cannot be imported, or the tree is broken.
                check_unchanged(command)
                result = SKIPPED
            db.set_result(item.job_id, result)
            print(
                f"{module.stem}, {name}: {i} of {len(pending)}, "
                f"{result.test_outcome.value if result.test_outcome else 'cannot be imported'}",
                flush=True,
            )
        return [
            result for _, result in db.results if result.worker_outcome != WorkerOutcome.SKIPPED
        ]


def digest(paths: list[Path], *settings: int) -> str:
    found = hashlib.sha256(repr(settings).encode())
    for path in sorted(paths):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def main(tree: Path) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    modules = sorted(p.stem for p in ROOT.glob("ntklib/*.py") if p.stem != "__init__")
    parser.add_argument("modules", nargs="*", default=modules, help="all of ntklib by default")
    parser.add_argument("--sample", type=int, default=100, help="mutants of each module (100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", choices=JUDGES, action="append", help="one judge, not both")
    asked = parser.parse_args()

    BUILD.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    os.chdir(tree)
    # Both judges run in double precision, on the copy.
    os.environ.update(PYTHONPATH=str(tree), JAX_PLATFORMS="cpu", JAX_ENABLE_X64="1")
    judged = {"tests": "tests/*.py", "claims": "chapters/*.ipynb"}
    rows = []
    for module in asked.modules:
        for name in asked.judge or JUDGES:
            inputs = [Path(__file__), *Path().glob("ntklib/*.py"), *Path().glob(judged[name])]
            session = BUILD / f"{module}-{name}-{digest(inputs, asked.sample, asked.seed)}.sqlite"
            results = judge(
                session, Path("ntklib") / f"{module}.py", name, asked.sample, asked.seed
            )
            killed = [r for r in results if r.test_outcome != TestOutcome.SURVIVED]
            by_claim = sum(": ClaimFailed: " in (r.output or "") for r in killed)
            rows.append((module, name, len(results), len(killed), by_claim))
            survivors = [r.diff for r in results if r not in killed]
            path = BUILD / f"{module}-{name}-survivors.txt"
            path.write_text("\n\n".join(survivors), encoding="utf-8")
    print(
        f"\n{'module':<20}{'judge':<8}{'mutants':>8}{'killed':>8}{'percent':>9}{'by a claim':>12}"
    )
    for module, name, total, killed, by_claim in rows:
        percent = 100 * killed / max(total, 1)
        told = by_claim if name == "claims" else ""
        print(f"{module:<20}{name:<8}{total:>8}{killed:>8}{percent:>9.1f}{told:>12}")
    print(f"The survivors are in {BUILD.relative_to(ROOT)}/*-survivors.txt.")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
