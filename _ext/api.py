"""The API page: one line a module, and signatures that a person can read."""

import re
from collections import namedtuple

from jax.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

MODULE = """\
## `{name}`

```{{eval-rst}}
.. automodule:: {name}
```
"""

FIELD = type(namedtuple("Any", "field").field)
ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")


def expand(app, docname, source):
    """Turn each line ``{module} NAME`` of the API page into a heading and its members."""
    if docname == "chapters/api":
        source[0] = re.sub(
            r"^\{module\} (\S+)$", lambda m: MODULE.format(name=m[1]), source[0], flags=re.M
        )


def shorten(app, what, name, obj, options, signature, returns):
    """Write ArrayLike by its name, not as the union that it stands for."""
    return tuple(s and s.replace(ARRAY_LIKE, "ArrayLike") for s in (signature, returns))


def once(app, what, name, obj, skip, options):
    """Leave out what is described elsewhere.

    What a module only passes on is described where it is written, the fields of a named tuple
    among the attributes of its docstring.
    """
    module = app.env.temp_data.get("autodoc:module")
    passed_on = what == "module" and getattr(obj, "__module__", module) != module
    return skip or passed_on or isinstance(obj, FIELD)


def plain_bars(app, what, name, obj, options, lines):
    """A bar is an absolute value here, never a substitution."""
    lines[:] = [
        line if "``" in line or ".. " in line else line.replace("|", r"\|") for line in lines
    ]


def setup(app):
    app.connect("source-read", expand)
    app.connect("autodoc-skip-member", once)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", plain_bars)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
