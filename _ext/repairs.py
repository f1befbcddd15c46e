"""What the building tools get wrong on our pages, repaired in one place each."""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx_proof.nodes import proof_node

CONTENT = {"proof-content", "exercise-content", "solution-content"}
"""Ids that sphinx-proof and sphinx-exercise give to the inside of every box."""


class Boxes(SphinxTransform):
    """Boxes: no repeated ids, no section without a title, "Proof." and its tombstone.

    The inside of a box is a section without a title, which sphinx-codeautolink cannot read.
    """

    default_priority = 400

    def apply(self) -> None:
        for section in list(self.document.findall(nodes.section)):
            if CONTENT.intersection(section["ids"]):
                inside = nodes.compound("", *section.children, classes=["box-content"])
                section.parent.replace(section, inside)
        for proof in self.document.findall(proof_node):
            body = proof.children[0]
            body["ids"] = []
            body["classes"].append("proof-body")
            first = next(body.findall(nodes.Text))
            if first.startswith("Proof."):
                word = nodes.inline("", "Proof.", classes=["proof-word"])
                first.parent.replace(first, [word, nodes.Text(first.removeprefix("Proof."))])
            if not isinstance(body.children[-1], nodes.paragraph):
                body += nodes.paragraph()
            body.children[-1] += nodes.inline("", "∎", classes=["tombstone"])


def launch(app, config):
    """Offer Binder, Colab and the sources only once the repository has an address."""
    options = config.html_theme_options
    if options.get("repository_url"):
        options["use_repository_button"] = True
    else:
        options.pop("repository_url", None)
        options["launch_buttons"] = {}


def attributes(app, pagename, templatename, context, doctree):
    """No role of a list around entries with a role of their own, no ids of citations.

    Docstrings are read one module at a time, each with ids from id1 on; no link leads to them.
    """
    if "body" in context:
        body = context["body"].replace('<div role="list" class=', "<div class=")
        context["body"] = re.sub(r'(<span class="bibtex-citation") id="id\d+"', r"\1", body)


def setup(app):
    app.add_transform(Boxes)
    app.connect("html-page-context", attributes)
    app.connect("config-inited", launch)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
