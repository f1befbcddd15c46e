"""What the building tools get wrong on our pages, repaired in one place each."""

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx_proof.nodes import proof_node


class Boxes(SphinxTransform):
    """Boxes of sphinx-proof: no repeated ids, no section without a title, a real "Proof."

    Every box holds a section with the id "proof-content", and every proof has the id
    "proof". A section without a title also stops sphinx-codeautolink.
    """

    default_priority = 400

    def apply(self) -> None:
        for section in list(self.document.findall(nodes.section)):
            if "proof-content" in section["ids"]:
                section.replace_self(nodes.compound("", *section.children, classes=["box-content"]))
        for proof in self.document.findall(proof_node):
            proof.children[0]["ids"] = []
            first = next(proof.findall(nodes.Text))
            if first.startswith("Proof."):
                word = nodes.inline("", "Proof.", classes=["proof-word"])
                rest = nodes.Text(first.removeprefix("Proof."))
                first.parent.replace(first, [word, rest])


def launch(app, config):
    """Offer Binder, Colab and the sources only once the repository has an address."""
    options = config.html_theme_options
    if options.get("repository_url"):
        options["use_repository_button"] = True
    else:
        options.pop("repository_url", None)
        options["launch_buttons"] = {}


def setup(app):
    app.add_transform(Boxes)
    app.connect("config-inited", launch)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
