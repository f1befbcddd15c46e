"""Ties each box to the check that holds it, and writes the ledger of all of them.

Claims come from the outputs stored in the notebooks (`ntklib.verify` puts them there as
JSON). A theorem, lemma, proposition or corollary without a check, a check without a box, two
checks of one box, or a check of another kind than its box is a warning, hence an error under
``-W``.
"""

import html
import json
import re
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx_proof.nodes import NODE_TYPES

from ntklib.verify import KINDS, MIME

logger = logging.getLogger(__name__)

OWED = {"theorem", "lemma", "proposition", "corollary"}
"""Boxes that owe a check."""

MARKS = {"proved": "checked ✓", "illustrated": "illustrated ✓", "cited": "cited, checked ✓"}


class Entry(NamedTuple):
    """A box with its check: what the ledger needs, kept between builds."""

    label: str
    realtype: str
    countertype: str
    title: list[nodes.Node]
    claim: dict


class ledger(nodes.General, nodes.Element):
    """Placeholder of the ledger, until every chapter is read."""


class Ledger(SphinxDirective):
    """``{claims}``: every claim of the book."""

    def run(self):
        self.env.ledgers = {*getattr(self.env, "ledgers", ()), self.env.docname}
        return [ledger()]


def boxes(doctree):
    """The boxes of a page that owe a check, by label."""
    found = doctree.findall(lambda n: type(n) in NODE_TYPES.values())
    return {n["label"]: n for n in found if n["realtype"] in OWED}


def kind_of(box):
    return next((k for k in ("cited", "illustrated") if k in box["classes"]), "proved")


def stored_claims(path):
    """The claims in a notebook's outputs, in order."""
    if path.suffix != ".ipynb":
        return []
    cells = json.loads(path.read_text("utf8"))["cells"]
    outputs = (output for cell in cells for output in cell.get("outputs", ()))
    return [o["data"][MIME] for o in outputs if MIME in o.get("data", {})]


def collect(app, doctree):
    """Match the boxes and the claims of one page."""
    docname = app.env.docname
    owed = boxes(doctree)
    claims = {}
    for claim in stored_claims(Path(app.env.doc2path(docname))):
        label = claim["label"]
        if label in claims:
            warn(f"{label}: checked twice", owed.get(label, docname))
        if label not in owed:
            warn(f"{label}: a check without a box", docname)
        claims[label] = claim
    for label, box in owed.items():
        if label not in claims:
            warn(f"{label}: a box without a check", box)
        elif claims[label]["kind"] != KINDS[kind_of(box)]:
            warn(f"{label}: the box is {kind_of(box)}, its check is not", box)
    entries(app.env)[docname] = [
        Entry(
            label,
            box["realtype"],
            box["countertype"],
            [n.deepcopy() for n in box.children[0].children],
            claims[label],
        )
        for label, box in owed.items()
        if label in claims
    ]


def warn(message, location):
    logger.warning(message, location=location, type="claims")


def entries(env):
    """Entries of every page read so far, by page."""
    if not hasattr(env, "claim_entries"):
        env.claim_entries = {}
    return env.claim_entries


def purge(app, env, docname):
    entries(env).pop(docname, None)


def merge(app, env, docnames, other):
    entries(env).update({d: e for d, e in entries(other).items() if d in docnames})
    env.ledgers = {*getattr(env, "ledgers", ()), *getattr(other, "ledgers", ())}


def outdated(app, env, added, changed, removed):
    """The ledger is written again whenever any page is."""
    return [d for d in getattr(env, "ledgers", ()) if d not in removed]


def name(env, docname, entry):
    """The words "Theorem 1.3", then the nodes of the title."""
    numbers = env.toc_fignumbers.get(docname, {}).get(entry.countertype, {})
    number = ".".join(map(str, numbers.get(entry.label, ())))
    text = nodes.Text(f"{entry.realtype.title()} {number}".strip())
    return [text, *[n.deepcopy() for n in entry.title]]


def as_html(parts):
    """Text and formulas as the page shows them, for HTML that a notebook wrote."""
    return "".join(
        f'<span class="math notranslate nohighlight">\\({html.escape(n.astext())}\\)</span>'
        if isinstance(n, nodes.math)
        else html.escape(n.astext())
        for n in parts
    )


def link(app, doctree, docname):
    """Mark the boxes, name them on their checks, and fill the ledger."""
    found = {e.label: e for e in entries(app.env).get(docname, ())}
    for label, box in boxes(doctree).items():
        if label in found:
            mark = nodes.reference("", MARKS[kind_of(box)], internal=True, classes=["box-check"])
            mark["refuri"] = f"#check-{label}"
            box.children[0] += [nodes.Text(" "), mark]
    for raw in doctree.findall(nodes.raw):
        if 'class="claim-box"' not in raw.astext():
            continue

        def named(match):
            entry = found.get(match[2])
            text = as_html(name(app.env, docname, entry)) if entry else match[2]
            return f"{match[1]}{text}</a>"

        text = re.sub(r'(<a class="claim-box" href="#([^"]+)">)[^<]*</a>', named, raw.astext())
        raw.children = [nodes.Text(text)]
        raw.rawsource = text
    for place in list(doctree.findall(ledger)):
        place.replace_self(table(app, docname))
        # A title may hold a formula; the page asks for MathJax by what it held when read.
        app.env.get_domain("math").data["has_equations"][docname] = True


def table(app, docname):
    """The whole ledger: a summary in words, and a row a claim."""
    env = app.env
    number = {page: env.toc_secnumbers.get(page, {}).get("", ()) for page in entries(env)}
    rows, kinds, checks, controls = [], dict.fromkeys(KINDS.values(), 0), 0, 0
    for chapter, found in sorted(entries(env).items(), key=lambda page: number[page[0]]):
        uri = app.builder.get_relative_uri(docname, chapter)
        for entry in found:
            claim = entry.claim
            kinds[claim["kind"]] += 1
            checks += len(claim["checks"])
            controls += len(claim["controls"])
            box = nodes.reference("", "", *name(env, chapter, entry), internal=True)
            box["refuri"] = f"{uri}#{entry.label}"
            page = nodes.reference("", env.titles[chapter].astext(), internal=True, refuri=uri)
            check = nodes.reference("", claim["kind"], internal=True)
            check["refuri"] = f"{uri}#check-{entry.label}"
            rows.append(
                row(
                    [nodes.paragraph("", "", box), nodes.paragraph("", "", page)],
                    [nodes.paragraph("", "", check)],
                    [lines(claim["checks"])],
                    [lines(claim["controls"])],
                )
            )
    parts = "; ".join(f"{n} {kind}" for kind, n in kinds.items() if n)
    summary = nodes.paragraph(
        "",
        f"{sum(kinds.values())} claims: {parts or 'none yet'}. "
        f"They make {checks} comparisons and are guarded by {controls} controls.",
        classes=["ledger-summary"],
    )
    group = nodes.tgroup("", *[nodes.colspec(colwidth=w) for w in (26, 12, 38, 24)], cols=4)
    titles = ("Statement", "Kind", "Checked", "Control")
    group += nodes.thead("", row(*([nodes.paragraph("", title)] for title in titles)))
    group += nodes.tbody("", *rows)
    return [summary, nodes.table("", group, classes=["ledger"])]


def row(*cells):
    return nodes.row("", *(nodes.entry("", *cell) for cell in cells))


def lines(found):
    """A list of statements, each with its tolerance, if it has one, on a line of its own."""
    items = []
    for one in found:
        item = nodes.list_item("", nodes.paragraph("", one["statement"]))
        if "tolerance" in one:
            item += nodes.paragraph("", one["tolerance"], classes=["claim-tolerance"])
        items.append(item)
    return nodes.bullet_list("", *items)


def setup(app):
    app.add_node(ledger)
    app.add_directive("claims", Ledger)
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
