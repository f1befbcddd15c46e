"""A plugin of pytest: nbval compares moving pictures number by number, not as text.

The last digits of what a chapter computes differ between machines. A picture is the same if all
its words are, and if no number is further off than a thousandth of its axis: a third of a pixel.
"""

import copy
from collections.abc import Iterator

import numpy as np
from nbval.plugin import IPyNbCell

from ntklib import _draw

TOLERANCE = _draw.SIDE / 1000

compare = IPyNbCell.compare_outputs


def numbers(data: dict) -> Iterator[tuple[str, dict, list]]:
    """Every list of numbers in a picture, with its name and the axis along which it is drawn."""
    for i, panel in enumerate(data["panels"], start=1):
        for name in ("x", "y"):
            yield f"panel {i}, {name}: limits", panel[name], panel[name]["limits"]
        for j, mark in enumerate(panel["marks"], start=1):
            where = f"panel {i}, mark {j}, {mark['kind']}"
            if mark["kind"] == "image":
                colours = {"limits": mark["limits"], "log": False}
                yield f"{where}: limits", colours, mark["limits"]
            for name, array in mark["arrays"].items():
                axis = panel["x" if name in ("x", "left", "right") else "y"]
                for k, values in enumerate(array["values"]):
                    shown = colours if mark["kind"] == "image" else axis
                    yield f"{where}: {name}, frame {k}", shown, values


def words(data: dict) -> dict:
    """The picture with each list of numbers replaced by its length."""
    data = copy.deepcopy(data)
    for _, _, values in numbers(data):
        values[:] = [len(values)]
    return data


def difference(stored: dict, found: dict) -> str:
    """Where two pictures differ, in words, or nothing."""
    if words(stored) != words(found):
        return "words, looks or shapes differ"
    for (where, axis, old), (_, _, new) in zip(numbers(stored), numbers(found), strict=True):
        a, b = _draw.across(axis, old), _draw.across(axis, new)
        if not np.allclose(a, b, rtol=0, atol=TOLERANCE, equal_nan=True):
            return f"{where}: differs by {np.nanmax(np.abs(a - b)) / _draw.SIDE:.2g} of the axis"
    return ""


def pictures(outputs: list) -> list:
    """The data of those outputs that hold a moving picture."""
    found = (output.get("data", {}) for output in outputs)
    return [data for data in found if "moving-data" in data.get("text/html", "")]


def compare_outputs(self, test, ref, skip_compare=None):
    """As nbval compares them, but a picture that is the same has the same text."""
    test, ref = copy.deepcopy(test), copy.deepcopy(ref)
    for new, old in zip(pictures(test), pictures(ref), strict=False):
        told = difference(*(_draw.stored_data(data["text/html"]) for data in (old, new)))
        old["text/html"], new["text/html"] = "the stored picture", told or "the stored picture"
    return compare(self, test, ref, skip_compare)


def pytest_configure():
    IPyNbCell.compare_outputs = compare_outputs
