"""Every theorem, lemma, proposition and corollary has one check in its chapter, and conversely.

Each rule is a generator of complaints, and is shown to bite on a small chapter that breaks it.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ntklib.verify import KINDS, MIME

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(ROOT.glob("chapters/*.ipynb"))

PREFIXES = {
    "theorem": "thm-",
    "lemma": "lem-",
    "proposition": "prop-",
    "corollary": "cor-",
    "definition": "def-",
    "remark": "rem-",
    "example": "exa-",
}
CHECKED = ("theorem", "lemma", "proposition", "corollary")


class Box(NamedTuple):
    """A directive of a chapter: its name without ``prf:``, its label and its class."""

    name: str
    label: str
    kind: str


class Call(NamedTuple):
    """A ``verify(label, kind)`` in a code cell; what is not a literal reads as no kind."""

    label: str
    kind: str


def directives(text: str) -> Iterator[Box]:
    """The directives of a markdown text in order, nested ones after the one that holds them."""
    for token in MarkdownIt().use(colon_fence_plugin).parse(text):
        if token.type == "colon_fence" and (named := re.match(r"\{([^}]+)\}", token.info.strip())):
            lines = takewhile(lambda line: line.startswith(":"), token.content.splitlines())
            options = dict(line[1:].split(":", 1) for line in lines)
            classes = [word for word in options.get("class", "").split() if word in KINDS]
            label = options.get("label", "").strip()
            yield Box(named[1].removeprefix("prf:"), label, (classes or ["proved"])[0])
            yield from directives(token.content)


def boxes(chapter: NotebookNode) -> list[Box]:
    texts = (cell.source for cell in chapter.cells if cell.cell_type == "markdown")
    return [box for text in texts for box in directives(text)]


def checked_boxes(chapter: NotebookNode) -> list[Box]:
    return [box for box in boxes(chapter) if box.name in CHECKED]


def calls(chapter: NotebookNode) -> list[Call]:
    """Every call of ``verify`` whose label and kind are written out."""
    found = []
    for cell in chapter.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
            match node:
                case ast.Call(func=ast.Name("verify"), args=[ast.Constant(str(label)), *more]):
                    named = [keyword.value for keyword in node.keywords if keyword.arg == "kind"]
                    kind = (more + named + [ast.Constant("proved")])[0]
                    found.append(Call(label, kind.value if isinstance(kind, ast.Constant) else ""))
                case ast.Call(func=ast.Name("verify")):
                    found.append(Call(ast.unparse(node), ""))
    return found


def stored(chapter: NotebookNode) -> list[dict]:
    outputs = (o for cell in chapter.cells if cell.cell_type == "code" for o in cell.outputs)
    return [output.data[MIME] for output in outputs if MIME in output.get("data", {})]


def every_box_has_one_check(chapter: NotebookNode) -> Iterator[str]:
    count = Counter(call.label for call in calls(chapter))
    for box in checked_boxes(chapter):
        if count[box.label] != 1:
            yield f"{box.name} '{box.label}' has {count[box.label]} checks, not one"


def every_check_has_a_box(chapter: NotebookNode) -> Iterator[str]:
    for label in {call.label for call in calls(chapter)} - {
        b.label for b in checked_boxes(chapter)
    }:
        yield f"the check '{label}' has no theorem, lemma, proposition or corollary"


def kinds_agree(chapter: NotebookNode) -> Iterator[str]:
    kinds = {call.label: call.kind for call in calls(chapter)}
    for box in checked_boxes(chapter):
        if box.label in kinds and kinds[box.label] != box.kind:
            yield f"box '{box.label}' is {box.kind}, its check says {kinds[box.label]}"


def every_check_is_stored(chapter: NotebookNode) -> Iterator[str]:
    expected = sorted((call.label, KINDS.get(call.kind, "")) for call in calls(chapter))
    found = sorted((claim["label"], claim["kind"]) for claim in stored(chapter))
    if expected != found:
        yield f"the cells make the claims {expected} and store {found}"


def stored_claims_have_checks_and_controls(chapter: NotebookNode) -> Iterator[str]:
    for claim in stored(chapter):
        for part in ("checks", "controls"):
            if not all(entry.get("statement") for entry in claim[part]) or not claim[part]:
                yield f"the stored claim '{claim['label']}' has no {part}"


def what_is_not_cited_is_proved(chapter: NotebookNode) -> Iterator[str]:
    relevant = [box for box in boxes(chapter) if box.name in (*CHECKED, "proof")]
    for box, following in zip(relevant, [*relevant[1:], Box("", "", "")], strict=True):
        if box.name in CHECKED and box.kind != "cited" and following.name != "proof":
            yield f"{box.name} '{box.label}' is neither cited nor followed by its proof"


def labels_say_what_they_name(chapter: NotebookNode) -> Iterator[str]:
    for box in boxes(chapter):
        if box.name in PREFIXES and not re.fullmatch(
            PREFIXES[box.name] + r"[a-z0-9]+(-[a-z0-9]+)*", box.label
        ):
            yield f"{box.name} '{box.label}' needs a label {PREFIXES[box.name]}…"


RULES = [
    every_box_has_one_check,
    every_check_has_a_box,
    kinds_agree,
    every_check_is_stored,
    stored_claims_have_checks_and_controls,
    what_is_not_cited_is_proved,
    labels_say_what_they_name,
]
Rule = Callable[[NotebookNode], Iterator[str]]


def repeated_labels(texts: list[str]) -> list[str]:
    """Labels of boxes, equations and sections that several texts, or one, give twice."""
    found = Counter(box.label for text in texts for box in directives(text) if box.label)
    for text in texts:
        found.update(re.findall(r"\$\$ *\(([\w-]+)\)$", text, re.MULTILINE))
        found.update(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    return sorted(label for label, times in found.items() if times > 1)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter(path: Path, rule: Rule) -> None:
    complaints = list(rule(nbformat.read(path, as_version=4)))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_makes_a_claim(path: Path) -> None:
    assert calls(nbformat.read(path, as_version=4))


def test_labels_are_unique_over_the_book() -> None:
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob("chapters/*.md")]
    for path in CHAPTERS:
        cells = nbformat.read(path, as_version=4).cells
        texts += [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert repeated_labels(texts) == []


def test_boxes_stand_in_chapters() -> None:
    for path in ROOT.glob("chapters/*.md"):
        names = [box.name for box in directives(path.read_text(encoding="utf-8"))]
        assert not set(names) & set(CHECKED), path.name


# --- The rules bite. The good chapter breaks none of them; each case changes one thing in it.

CLAIM = {
    "label": "thm-a",
    "kind": KINDS["proved"],
    "checks": [{"statement": "a = a", "how": "close", "tolerance": "1e-10 relative"}],
    "controls": [{"statement": "without a", "how": "close"}],
}
THEOREM = "::::{prf:theorem} A\n:label: thm-a\n\n$$ a = a $$ (eq-a)\n::::"
PROOF = ":::{prf:proof}\nBy looking.\n:::"
CITED = ":::{prf:lemma} B\n:label: lem-b\n:class: cited\n\nB.\n:::"
CHECK = 'with verify("thm-a") as claim:\n    pass'
CHECK_OF_CITED = 'with verify("lem-b", kind="cited") as claim:\n    pass'


def chapter(
    markdown: str = f"{THEOREM}\n\n{PROOF}\n\n{CITED}",
    source: tuple[str, ...] = (CHECK, CHECK_OF_CITED),
    **changes: object,
) -> NotebookNode:
    """A chapter of two boxes; `changes` go into the stored claim of the first."""
    claims = [
        {**CLAIM, **changes},
        {**CLAIM, "label": "lem-b", "kind": KINDS["cited"]},
    ]
    cells = [
        new_code_cell(text, outputs=[new_output("display_data", data={MIME: claim})])
        for text, claim in zip(source, claims, strict=False)
    ]
    return new_notebook(cells=[new_markdown_cell(markdown), *cells])


def test_a_good_chapter_breaks_no_rule() -> None:
    assert [complaint for rule in RULES for complaint in rule(chapter())] == []
    assert boxes(chapter())[0] == Box("theorem", "thm-a", "proved")


UNPROVED = f"{THEOREM}\n\n{CITED}"
NESTED = f":::::{{note}}\n{THEOREM}\n\n{PROOF}\n:::::"
BAD = {
    "a box without a check": (
        chapter(source=(CHECK,)),
        {every_box_has_one_check},
    ),
    "a box checked twice": (
        chapter(source=(CHECK, CHECK + "\n" + CHECK_OF_CITED)),
        {every_box_has_one_check, every_check_is_stored},
    ),
    "a check without a box": (chapter(f"{THEOREM}\n\n{PROOF}"), {every_check_has_a_box}),
    "a check of a definition": (
        chapter(f"{THEOREM}\n\n{PROOF}\n\n" + CITED.replace("lemma", "definition")),
        {every_check_has_a_box, labels_say_what_they_name},
    ),
    "a label that is not written out": (
        chapter(source=(CHECK.replace('"thm-a"', "label"), CHECK_OF_CITED)),
        {every_box_has_one_check, every_check_has_a_box, every_check_is_stored},
    ),
    "a cited box whose check says proved": (
        chapter(source=(CHECK, CHECK_OF_CITED.replace(', kind="cited"', ""))),
        {kinds_agree, every_check_is_stored},
    ),
    "a proved box whose check says cited": (
        chapter(source=(CHECK.replace(")", ', "cited")'), CHECK_OF_CITED)),
        {kinds_agree, every_check_is_stored},
    ),
    "a claim stored under another label": (chapter(label="thm-z"), {every_check_is_stored}),
    "a claim stored with another kind": (chapter(kind=KINDS["cited"]), {every_check_is_stored}),
    "no checks": (chapter(checks=[]), {stored_claims_have_checks_and_controls}),
    "no controls": (chapter(controls=[]), {stored_claims_have_checks_and_controls}),
    "an empty statement": (
        chapter(checks=[{"statement": ""}]),
        {stored_claims_have_checks_and_controls},
    ),
    "a theorem without a proof": (chapter(UNPROVED), {what_is_not_cited_is_proved}),
    "a last theorem without a proof": (
        chapter(f"{CITED}\n\n{THEOREM}"),
        {what_is_not_cited_is_proved},
    ),
    "a box within a box is seen": (chapter(NESTED), {every_check_has_a_box}),
    "a label of another kind": (
        chapter(f"{THEOREM}\n\n{PROOF}\n\n" + CITED.replace("lemma", "corollary")),
        {labels_say_what_they_name},
    ),
    "a box without a label": (
        chapter(f"{THEOREM}\n\n{PROOF}\n\n{CITED}\n\n:::{{prf:remark}} R\nR.\n:::"),
        {labels_say_what_they_name},
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_each_rule_bites(case: str) -> None:
    notebook, broken = BAD[case]
    assert {rule for rule in RULES if list(rule(notebook))} == broken


def test_a_check_that_stored_nothing_is_seen() -> None:
    notebook = chapter()
    notebook.cells[1].outputs = []
    assert [rule for rule in RULES if list(rule(notebook))] == [every_check_is_stored]


def test_options_of_an_inner_box_are_its_own() -> None:
    outer = ":::::{prf:lemma} C\n:label: lem-c\n:class: wide illustrated\n\n" + CITED + "\n:::::"
    assert list(directives(outer)) == [
        Box("lemma", "lem-c", "illustrated"),
        Box("lemma", "lem-b", "cited"),
    ]


def test_a_check_in_text_is_no_check() -> None:
    notebook = chapter(source=(f'"""{CHECK}"""'.replace('"thm-a"', "'thm-a'"), CHECK_OF_CITED))
    assert every_box_has_one_check in [rule for rule in RULES if list(rule(notebook))]


def test_repeated_labels_are_seen() -> None:
    assert repeated_labels([THEOREM, PROOF, CITED]) == []
    assert repeated_labels([THEOREM, THEOREM]) == ["eq-a", "thm-a"]
    assert repeated_labels(["(here)=\n# A", "(here)=\n# B"]) == ["here"]
