"""A stored notebook is worth comparing: executed in order, with outputs, legible, reproducible.

nbval passes on a notebook without outputs, so these rules come first. Each rule is a generator of
complaints, and is shown to bite on a small notebook that breaks it alone.
"""

import ast
import copy
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ntklib import _draw, moving

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(ROOT.glob("chapters/*.ipynb"))
FIRST_CELL = runpy.run_path(str(ROOT / "tools" / "first_cell.py"))["first_cell"]

DIGITS = 6
NUMBER = re.compile(r"(?<![\w.])\d*\.\d+(?:[eE][+-]?\d+)?")
# What another machine, or the same one tomorrow, would print otherwise.
UNSTABLE = re.compile(
    r"\b0x[0-9a-f]{6,}\b|/home/|/Users/|/root/|/tmp/|[A-Z]:\\\\"
    r"|\b(wall time|cpu times?|elapsed|it/s)\b|\d\s?(ms|µs|ns|s|sec|seconds?|minutes?)\b",
    re.IGNORECASE,
)
CLOCK = re.compile(r"%%?time(it)?\b|\b(perf_counter|process_time|monotonic|time\.time)\b")
# Words by which nbval is told to look away.
NBVAL = re.compile("nbval|pytest_validate|raises-exception", re.IGNORECASE)
SHOWS = {"print", "display", "verify"}

Rule = Callable[[NotebookNode], Iterator[str]]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parse(cell: NotebookNode) -> ast.Module:
    return ast.parse(TransformerManager().transform_cell(cell.source))


def texts(output: NotebookNode) -> Iterator[str]:
    """What a reader sees of an output as text, with markup removed."""
    if output.output_type == "stream":
        yield output.text
    for mime, value in output.get("data", {}).items():
        if mime == "text/html":
            if moves(output):
                data = _draw.stored_data(value)
                yield from data["notes"] or []
                yield from (label for slider in data["sliders"] for label in slider["labels"])
            value = re.sub(r"<(style|script|svg)\b.*?</\1>", "", value, flags=re.DOTALL)
            yield re.sub(r"<[^>]*>", "", value)
        elif mime in ("text/plain", "text/latex", "text/markdown"):
            yield value


def has_image(output: NotebookNode) -> bool:
    return any(mime.startswith("image/") for mime in output.get("data", {}))


def moves(output: NotebookNode) -> bool:
    return "moving-data" in output.get("data", {}).get("text/html", "")


def executed_in_order(notebook: NotebookNode) -> Iterator[str]:
    cells = code_cells(notebook)
    if not cells:
        yield "has no code"
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        yield f"was not executed top to bottom: counts {counts}"


def outputs_are_stored(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        names = {node.id for node in ast.walk(parse(cell)) if isinstance(node, ast.Name)}
        shows = names & SHOWS or "figure" in cell.metadata.get("mystnb", {})
        # Defining a function that prints shows nothing yet.
        defines = any(isinstance(node, ast.FunctionDef) for node in parse(cell).body)
        if shows and not defines and not cell.outputs:
            yield f"cell {cell.execution_count} shows something and stores no output"


def no_error(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"cell {cell.execution_count} stores an error"


def no_stderr(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"cell {cell.execution_count} stores what was written to stderr"


def figures_are_described(notebook: NotebookNode) -> Iterator[str]:
    names = []
    for cell in code_cells(notebook):
        metadata = cell.metadata.get("mystnb", {})
        figure, image = metadata.get("figure", {}), metadata.get("image", {})
        images = sum(has_image(output) or moves(output) for output in cell.outputs)
        where = f"cell {cell.execution_count}"
        if figure or images:
            names.append(figure.get("name", ""))
            if images != 1:
                yield f"{where}: a figure is one image, this cell stores {images}"
            if not names[-1].startswith("fig-"):
                yield f"{where}: the figure has no name fig-…"
            if not figure.get("caption", "").strip():
                yield f"{where}: the figure has no caption"
            # A moving picture carries its description with it.
            if len(image.get("alt", "").split()) < 3 and not any(map(moves, cell.outputs)):
                yield f"{where}: the figure has no alt text"
    if len(set(names)) != len(names):
        yield f"two figures have one name: {sorted(names)}"


def few_digits(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        for number in (n for o in cell.outputs for text in texts(o) for n in NUMBER.findall(text)):
            digits = re.sub(r"[eE].*|\.", "", number).lstrip("0")
            if len(digits) > DIGITS:
                yield f"cell {cell.execution_count} prints {number}, more than {DIGITS} digits"


def same_everywhere(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        for text in (text for output in cell.outputs for text in texts(output)):
            if found := UNSTABLE.search(text):
                yield f"cell {cell.execution_count} prints '{found[0]}', which varies"
        if found := CLOCK.search(cell.source):
            yield f"cell {cell.execution_count} reads the clock: {found[0]}"


def stored_by_make_chapters(notebook: NotebookNode) -> Iterator[str]:
    try:
        nbformat.validate(notebook)
    except (nbformat.ValidationError, Warning) as error:  # repeated ids of cells only warn
        yield f"is not a valid notebook: {error}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "does not ask for the kernel python3"
    if set(notebook.metadata.get("language_info", {})) != {"name"}:
        yield "names the version of Python that executed it; store it with 'make chapters'"
    for cell in notebook.cells:
        if "execution" in cell.metadata:
            yield "stores times of execution; store it with 'make chapters'"
        if not cell.source.strip():
            yield "has an empty cell"
        if cell.get("attachments"):
            yield "has an attachment; a figure is drawn by its cell"


def imports_come_first(notebook: NotebookNode) -> Iterator[str]:
    cells = code_cells(notebook)
    if not cells or cells[0].source != FIRST_CELL():
        yield "does not begin with the cell that tools/first_cell.py writes"
    elif "remove-cell" not in cells[0].metadata.get("tags", []):
        yield "shows its first cell on the page"
    for cell in cells[2:]:
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in parse(cell).body):
            yield f"cell {cell.execution_count} imports; imports come first"


def everything_is_compared(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        tags = [tag for tag in cell.metadata.get("tags", []) if NBVAL.match(tag)]
        marks = re.findall(r"^#\s*(\w+)", cell.source, re.MULTILINE)
        for word in tags + [mark for mark in marks if NBVAL.match(mark)]:
            yield f"cell {cell.execution_count} is not compared: {word}"


def colon_fences(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^\s*```+\{", cell.source, re.MULTILINE):
            yield "has a directive in backticks, which plain Jupyter shows as code; use colons"


def exercises_are_solved(notebook: NotebookNode) -> Iterator[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    exercises = re.findall(r"^:{3,}\{exercise\}[^\n]*\n:label: *(\S+)", text, re.MULTILINE)
    solutions = re.findall(r"^:{3,}\{solution(?:-start)?\} *(\S+)", text, re.MULTILINE)
    if sorted(exercises) != sorted(solutions):
        yield f"exercises {sorted(exercises)} have solutions {sorted(solutions)}"
    if text.count("{solution-start}") != text.count("{solution-end}"):
        yield "has a solution that does not end"


RULES: list[Rule] = [
    executed_in_order,
    outputs_are_stored,
    no_error,
    no_stderr,
    figures_are_described,
    few_digits,
    same_everywhere,
    stored_by_make_chapters,
    imports_come_first,
    everything_is_compared,
    colon_fences,
    exercises_are_solved,
]


def test_the_book_has_its_chapters() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert CHAPTERS
    assert {f"chapters/{path.stem}" for path in CHAPTERS} <= set(listed)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter(path: Path, rule: Rule) -> None:
    complaints = list(rule(nbformat.read(path, as_version=4)))
    assert not complaints, "\n".join(complaints)


# --- The rules bite. `good` breaks none of them; each case below breaks exactly one.

FIGURE = {
    "figure": {"name": "fig-line", "caption": "A line."},
    "image": {"alt": "A line that rises."},
}


@pytest.fixture
def good() -> NotebookNode:
    image = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 640x480 with 1 Axes>"}
    exercise = ":::{exercise} One\n:label: ex-one\n\nShow it.\n:::\n"
    solution = "\n:::{solution-start} ex-one\n:::\n\nDone.\n\n:::{solution-end}\n:::"
    cells = [
        new_markdown_cell("# A chapter"),
        new_code_cell(FIRST_CELL(), metadata={"tags": ["remove-cell"]}),
        new_code_cell("import math"),
        new_code_cell(
            "print(math.pi)", outputs=[new_output("stream", name="stdout", text="3.14159\n")]
        ),
        new_code_cell(
            "plot()",
            metadata={"mystnb": copy.deepcopy(FIGURE)},
            outputs=[new_output("display_data", data=image)],
        ),
        new_markdown_cell(exercise + solution),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
    }
    notebook = new_notebook(cells=cells, metadata=metadata)
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
    return notebook


def test_a_good_notebook_breaks_no_rule(good: NotebookNode) -> None:
    assert [complaint for rule in RULES for complaint in rule(good)] == []


def test_a_moving_picture_is_a_figure(good: NotebookNode) -> None:
    moving_figure()(good)
    assert [complaint for rule in RULES for complaint in rule(good)] == []


def prints(text: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[3].outputs[0].update(text=text)


def shows(mime: str, text: str) -> Callable[[NotebookNode], None]:
    output = new_output("execute_result", data={mime: text}, execution_count=3)
    return lambda notebook: notebook.cells[3].update(outputs=[output])


def source(cell: int, text: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[cell].update(source=text)


def second_figure(notebook: NotebookNode) -> None:
    notebook.cells.append(copy.deepcopy(notebook.cells[4]))
    notebook.cells[-1].update(execution_count=5, id="second")


def moving_figure(
    *, caption: str = "It moves.", label: str = "b", note: str = "d"
) -> Callable[[NotebookNode], None]:
    picture = moving.picture(
        moving.panel(moving.line([0, 1], [[0, 1], [1, 0]])),
        slider={"time": ["a", label]},
        alt="A line that turns.",
        notes=["c", note],
    )
    bundle = {"text/plain": str(picture), "text/html": picture._repr_html_()}
    output = new_output("execute_result", data=bundle, execution_count=4)
    figure = {"name": "fig-line", "caption": caption}
    metadata = {"mystnb": {"figure": figure}}
    return lambda notebook: notebook.cells[4].update(metadata=metadata, outputs=[output])


def set_figure(**changes: object) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[4].metadata["mystnb"].update(changes)


STDERR = new_output("stream", name="stderr", text="a warning")
ERROR = new_output("error", ename="E", evalue="", traceback=[])
TIMES = {"iopub.status.busy": "2026-01-01"}
PICTURE = {"a.png": {"image/png": ""}}

BAD: list[tuple[Rule, Callable[[NotebookNode], None]]] = [
    (executed_in_order, lambda nb: nb.cells[3].update(execution_count=None)),
    (executed_in_order, lambda nb: nb.cells[4].update(execution_count=7)),
    (outputs_are_stored, lambda nb: nb.cells[3].update(outputs=[])),
    (outputs_are_stored, source(2, 'import math\nwith verify("thm-x") as claim:\n    pass')),
    (no_error, lambda nb: nb.cells[3].outputs.append(ERROR)),
    (no_stderr, lambda nb: nb.cells[3].outputs.append(STDERR)),
    (figures_are_described, set_figure(image={})),
    (figures_are_described, set_figure(image={"alt": "Plot."})),
    (figures_are_described, set_figure(figure={"name": "fig-line", "caption": " "})),
    (figures_are_described, set_figure(figure={"caption": "A line."})),
    (figures_are_described, set_figure(figure={"name": "line", "caption": "A line."})),
    (figures_are_described, lambda nb: nb.cells[4].update(metadata={})),
    (figures_are_described, lambda nb: nb.cells[4].outputs.append(nb.cells[4].outputs[0])),
    (figures_are_described, second_figure),
    (figures_are_described, moving_figure(caption="")),
    (few_digits, moving_figure(label="t = 0.1234567")),
    (few_digits, moving_figure(note="0.1234567 away")),
    (few_digits, prints("3.1415926\n")),
    (few_digits, prints("[1.234567e-05]\n")),
    (few_digits, shows("text/plain", "Array(0.1234567)")),
    (few_digits, shows("text/html", "<td>-0.1234567</td>")),
    (few_digits, shows("text/latex", "$1234.567$")),
    (same_everywhere, prints("fitted in 3.2 s\n")),
    (same_everywhere, prints("Wall time: short\n")),
    (same_everywhere, prints("<function f at 0x7f01a2b3c4d5>\n")),
    (same_everywhere, prints("/home/reader/data.csv\n")),
    (same_everywhere, source(3, "%time print(math.pi)")),
    (same_everywhere, source(3, "print(perf_counter())")),
    (stored_by_make_chapters, lambda nb: nb.metadata["language_info"].update(version="3.11.7")),
    (stored_by_make_chapters, lambda nb: nb.metadata["kernelspec"].update(name="mine")),
    (stored_by_make_chapters, lambda nb: nb.cells[3].metadata.update(execution=TIMES)),
    (stored_by_make_chapters, lambda nb: nb.cells[0].update(source=" ")),
    (stored_by_make_chapters, lambda nb: nb.cells[0].update(attachments=PICTURE)),
    (stored_by_make_chapters, lambda nb: nb.cells[0].update(nonsense=1)),
    (stored_by_make_chapters, lambda nb: nb.cells[0].update(id=nb.cells[1].id)),
    (imports_come_first, source(1, "import jax")),
    (imports_come_first, lambda nb: nb.cells[1].metadata.update(tags=[])),
    (imports_come_first, source(3, "import numpy\nprint(1)")),
    (everything_is_compared, lambda nb: nb.cells[3].metadata.update(tags=["nbval-skip"])),
    (everything_is_compared, lambda nb: nb.cells[3].metadata.update(tags=["raises-exception"])),
    (everything_is_compared, source(3, "#NBVAL_IGNORE_OUTPUT\nprint(math.pi)")),
    (everything_is_compared, source(3, "# PYTEST_VALIDATE_IGNORE_OUTPUT\nprint(math.pi)")),
    (colon_fences, source(0, "```{prf:theorem} T\n:label: thm-t\n```")),
    (exercises_are_solved, source(5, ":::{solution-start} ex-one\n:::\n:::{solution-end}\n:::")),
    (exercises_are_solved, source(5, ":::{solution-start} ex-one\n:::")),
    (exercises_are_solved, source(5, ":::{exercise} One\n:label: ex-one\n:::")),
]


@pytest.mark.parametrize(
    ("rule", "spoil"), BAD, ids=[f"{i}-{rule.__name__}" for i, (rule, _) in enumerate(BAD)]
)
def test_each_rule_bites(good: NotebookNode, rule: Rule, spoil: Callable[[NotebookNode], None]):
    spoil(good)
    assert {each for each in RULES if list(each(good))} == {rule}


def test_a_notebook_without_code_is_refused(good: NotebookNode) -> None:
    good.cells = [cell for cell in good.cells if cell.cell_type == "markdown"]
    assert list(executed_in_order(good)) == ["has no code"]
