"""The commands do what the read-me says: make, its Python, the tools, and the files beside them."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SUPPORTED = ["3.11", "3.12", "3.13"]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


# --- make and its Python


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Makefile and nothing to install."""
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "tools/find_python.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "requirements.txt").touch()
    return tmp_path


def make(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    # These tests run below a make of their own, whose settings are not theirs.
    outer = re.compile("MAKE|MFLAGS|PYTHON$")
    inherited = {name: value for name, value in os.environ.items() if not outer.match(name)}
    environment = {**inherited, "PATH": f"{path}:/usr/bin:/bin"}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


REFUSAL = "This book needs Python 3.11, 3.12 or 3.13"


def test_another_python_is_refused_in_one_sentence(folder: Path) -> None:
    old = script(folder / "old", "exit 1")  # answers the question for its version with no
    done = make(folder, "book", f"PYTHON={old}")
    assert done.returncode == 2
    assert done.stdout == ""
    sentence, make_says = done.stderr.strip().split("\n")
    assert sentence.startswith(REFUSAL)
    assert str(old) in sentence
    assert make_says.startswith("make: ***")
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13), (3, 14), (2, 7), (4, 0)])
def test_the_supported_versions_are_told_from_the_others(tmp_path: Path, version) -> None:
    # The question is put to this Python, under another version.
    python = script(
        tmp_path / "python",
        f'code="import sys; sys.version_info = {version}; $2"; exec {sys.executable} -c "$code"',
    )
    found = subprocess.run(
        ["sh", ROOT / "tools" / "find_python.sh", python], capture_output=True, text=True
    )
    supported = f"{version[0]}.{version[1]}" in SUPPORTED
    assert found.returncode == (0 if supported else 1)
    assert (REFUSAL in found.stderr) == (not supported)


@pytest.fixture
def bin_folder(folder: Path) -> str:
    """A python3 that is a shim for nothing, and a python3.12 that logs what is installed."""
    script(folder / "pip", 'echo "$*" >> log; test ! -e offline')
    script(folder / "bin" / "python3", "exit 127")
    python = folder / "bin" / "python3.12"
    script(
        python,
        f"""
        case "$*" in
        *print*) echo {python} ;;
        -c*) exec {sys.executable} "$@" ;;
        "-m venv .venv") mkdir -p .venv/bin; cp pip .venv/bin/python ;;
        esac
        """,
    )
    return str(folder / "bin")


def installed(folder: Path) -> list[str]:
    """The installations of the lock and of the package, in order."""
    log = (folder / "log").read_text(encoding="utf-8")
    return re.findall(r"--require-hashes -r requirements.txt|--no-deps -e \.", log)


ONCE = ["--require-hashes -r requirements.txt", "--no-deps -e ."]


def test_a_supported_python_is_found_and_venv_is_made_once(folder: Path, bin_folder: str) -> None:
    for _ in range(2):
        assert make(folder, ".venv/.ready", path=bin_folder).returncode == 0
        assert installed(folder) == ONCE


def test_a_python_named_by_the_user_is_not_replaced(folder: Path, bin_folder: str) -> None:
    done = make(folder, ".venv/.ready", "PYTHON=python3", path=bin_folder)
    assert done.returncode == 2
    assert REFUSAL in done.stderr


def test_venv_is_made_again_when_the_lock_changes(folder: Path, bin_folder: str) -> None:
    make(folder, ".venv/.ready", path=bin_folder)
    (folder / ".venv" / "stale").touch()
    later = (folder / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(folder / "requirements.txt", (later, later))
    make(folder, ".venv/.ready", path=bin_folder)
    assert installed(folder) == ONCE + ONCE
    assert not (folder / ".venv" / "stale").exists()


def test_an_interrupted_installation_is_begun_again(folder: Path, bin_folder: str) -> None:
    (folder / "offline").touch()
    assert make(folder, ".venv/.ready", path=bin_folder).returncode == 2
    assert (folder / ".venv").exists()
    assert not (folder / ".venv" / ".ready").exists()
    (folder / "offline").unlink()
    assert make(folder, ".venv/.ready", path=bin_folder).returncode == 0
    assert installed(folder) == [*ONCE[:1], *ONCE]


def test_make_alone_explains_every_target(folder: Path) -> None:
    told = make(folder).stdout
    makefile = (folder / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    assert set(re.findall(r"^  (\w+) ", told, re.MULTILINE)) == set(targets)
    assert {"book", "test", "check", "lab", "serve", "chapters"} <= set(targets)


# --- the tools


def test_a_part_that_fails_does_not_stop_the_others(monkeypatch, capsys) -> None:
    check = tool("check")
    say = [sys.executable, "-c"]
    parts = [
        check.Part("first", [[*say, "print('3 failed, 2 passed in 0.12s'); exit(1)"]]),
        check.Part("second", [[*say, "print('=== 7 passed, 1 warning in 0.34s ===')"]], fast=True),
    ]
    monkeypatch.setattr(check, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["check"])
    assert check.main() == 1
    told = capsys.readouterr().out
    assert re.search(r"^first +[\d.]+ +FAILED +3 failed, 2 passed in 0.12s$", told, re.MULTILINE)
    assert re.search(r"^second +[\d.]+ +ok +=== 7 passed, 1 warning in 0.34s ===$", told, re.M)
    assert re.search(r"^all +[\d.]+ +FAILED$", told, re.MULTILINE)
    monkeypatch.setattr(sys, "argv", ["check", "--fast"])
    assert check.main() == 0
    assert "first" not in capsys.readouterr().out


def test_every_test_of_the_book_runs_in_one_part() -> None:
    check = tool("check")
    own = check.BITE_TESTS + check.BROWSER_TESTS
    words = [word for part in check.PARTS for command in part.commands for word in command]
    assert all((ROOT / path).is_file() for path in own)
    assert all(words.count(path) == words.count(f"--ignore={path}") == 1 for path in own)
    assert words.count("tests/book") == 1


def test_a_chapter_is_stored_in_the_same_way_on_every_machine(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    cells = [new_code_cell("a = 1"), new_code_cell("print(a)\nprint(a)")]
    nbformat.write(new_notebook(cells=cells), path)
    tool("execute").execute(path)
    stored = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in stored.cells] == [1, 2]
    assert [output.text for output in stored.cells[1].outputs] == ["1\n1\n"]
    assert stored.metadata["language_info"] == {"name": "python"}
    assert not any("execution" in cell.metadata for cell in stored.cells)
    assert list(tmp_path.iterdir()) == [path]


def test_a_chapter_that_fails_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        tool("execute").execute(path)
    assert path.read_bytes() == before


def test_pages_are_listed_with_their_sections() -> None:
    toc = yaml.safe_load("""
        root: index
        parts:
          - chapters:
              - file: a
                sections: [{file: b}]
          - chapters: [{file: c}]
    """)
    assert tool("build").pages(toc) == ["index", "a", "b", "c"]


MODULE = """import jax
@jax.jit
def f(x: int | None, /, n=2) -> float | int:
    return x * n if x == 1 else x
"""


def test_mutants_that_tell_nothing_are_left_out(tmp_path: Path) -> None:
    mutants = tool("mutants")
    (tmp_path / "m.py").write_text(MODULE, encoding="utf-8")
    with mutants.use_db(tmp_path / "session.sqlite") as db:
        mutants.draw(db, tmp_path / "m.py", 10**6, 0)
        drawn = [item.mutations[0] for item in db.pending_work_items]
    names = {mutation.operator_name for mutation in drawn}
    assert "core/ReplaceBinaryOperator_Mul_Add" in names
    assert "core/ReplaceComparisonOperator_Eq_NotEq" in names
    assert "core/NumberReplacer" in names
    assert not [n for n in names if re.search("_Is|Bit|Shift|Decorator|_Div_(Add|Sub|Pow)", n)]
    # Only the default of n, and the line below, are left.
    assert {mutation.start_pos[0] for mutation in drawn} == {3, 4}


def test_a_mutant_that_could_not_be_run_is_no_kill(tmp_path: Path, monkeypatch) -> None:
    mutants = tool("mutants")
    (tmp_path / "m.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setitem(mutants.JUDGES, "tests", lambda module: sys.executable + " --version")
    # The module that is to be changed is gone when its turn comes.
    monkeypatch.setattr(mutants, "check_unchanged", lambda _: (tmp_path / "m.py").unlink() or 1.0)
    with pytest.raises(SystemExit, match="could not be run"):
        mutants.judge(tmp_path / "session.sqlite", tmp_path / "m.py", "tests", 5, 0)


def test_a_mutant_that_cannot_be_imported_is_no_kill(tmp_path: Path, monkeypatch) -> None:
    mutants = tool("mutants")
    (tmp_path / "m.py").write_text("a = 2 * 3\nif a > 6: raise ImportError\n", encoding="utf-8")
    (tmp_path / "judge.py").write_text(
        "from m import a\nif a != 6: print('FAILED it'); exit(1)\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(mutants.JUDGES, "tests", lambda module: f"{sys.executable} -S judge.py")
    results = mutants.judge(Path("session.sqlite"), Path("m.py"), "tests", 100, 0)
    killed = {r.diff.split("\n+")[-1].split("\n")[0] for r in results if r.is_killed}
    # 2 * 3 became 2 + 3, 2 - 3 and so on: only what is above 6 cannot be imported.
    assert "a = 2 + 3" in killed
    assert not killed & {"a = 2 ** 3", "a = 3 * 3"}


# --- the first cell of a chapter


def installs(address: str, *, found: bool, tmp_path: Path) -> list[str]:
    """What the cell asks pip to install, given the setting and whether the package is there."""
    (tmp_path / "_config.yml").write_text(f'repository: {{url: "{address}"}}', encoding="utf-8")
    code = TransformerManager().transform_cell(tool("first_cell").first_cell(tmp_path))
    asked: list[str] = []
    shell = SimpleNamespace(run_line_magic=lambda magic, line: asked.append(f"{magic} {line}"))
    code = code.replace("importlib.util.find_spec", "find_spec")
    spec = object() if found else None
    exec(code, {"get_ipython": lambda: shell, "find_spec": lambda name: spec})
    return asked


def test_the_first_cell_installs_only_what_is_missing_and_has_an_address(tmp_path: Path) -> None:
    address = "https://github.com/owner/name"
    assert installs("", found=False, tmp_path=tmp_path) == []
    assert installs(address, found=True, tmp_path=tmp_path) == []
    (asked,) = installs(address, found=False, tmp_path=tmp_path)
    # IPython puts the address in the place of {repository}.
    assert asked == 'pip install -q "ntklib[book] @ git+{repository}"'
    code = tool("first_cell").first_cell(tmp_path)
    assert f'repository = "{address}"' in code


def test_jupyterlab_loads_the_extension_that_draws_the_boxes() -> None:
    command = [sys.executable, "-m", "jupyter", "labextension", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    told = re.sub(r"\x1b\[\d+m", "", listed.stdout + listed.stderr)
    assert re.search(r"jupyterlab-myst v\S+ +enabled +OK", told), told


# --- what the read-me and the files beside it promise


def test_the_example_of_the_read_me_prints_what_it_says() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    expected = re.findall(r"print\(.*\)  # (.*)", code)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout.splitlines() == expected
    assert len(code.strip().splitlines()) <= 12


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files_and_pictures_are_described(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for alt, target in re.findall(r"!?\[([^]]*)\]\(([^)]+)\)", text):
        assert alt
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for target in re.findall(r"`(\.?[\w-]+/[\w./-]*)`", text):
        assert "NAME" in target or (ROOT / target).exists(), target


def test_the_read_me_fits_on_a_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 50


def test_every_command_that_is_told_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|^ {4})make (\w+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_citation_package_and_book_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["title"] == config["title"]
    assert PROJECT["license"] in citation["license"]


def test_the_lock_holds_all_requirements_with_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"^([\w.-]+)(?:\[.*\])?==\S+(.*)$", lock, re.MULTILINE)
    entries = re.split(r"\n(?=[\w.-]+(?:\[.*\])?==)", "\n" + lock)[1:]
    assert len(pinned) == len(entries) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"--(extra-)?index-url|--find-links|https?://|file:", lock)
    extras = PROJECT["optional-dependencies"]
    for requirement in [*PROJECT["dependencies"], *extras["book"], *extras["dev"]]:
        name = re.match(r"[\w-]+", requirement)[0]
        assert name in {"ntklib", *(pin for pin, _ in pinned)}, name


def test_all_places_name_the_same_pythons() -> None:
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    workflow = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == SUPPORTED
    binder = (ROOT / ".binder/runtime.txt").read_text(encoding="utf-8").strip()
    assert binder.removeprefix("python-") in SUPPORTED


def test_workflows_run_the_same_commands() -> None:
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        assert runs[-1] == ".ci/run"


@pytest.mark.parametrize("name", [".ci/run", ".binder/postBuild", "tools/find_python.sh"])
def test_scripts_are_well_formed(name: str) -> None:
    subprocess.run(["bash", "-n", ROOT / name], check=True)
    if name.startswith("."):
        assert (ROOT / name).stat().st_mode & stat.S_IXUSR
