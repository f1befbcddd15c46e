"""Moving pictures: drawn from the data they store, by the page and by its player alike.

That the data are what the chapter computes is for nbval to compare, by tools/nbval_pictures.py.
"""

import copy
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from playwright.sync_api import Locator, Page

from ntklib import _draw, moving

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
CHAPTERS = sorted(ROOT.glob("chapters/*.ipynb"))

# A picture that has everything, and its own page.
SOURCE = """\
import numpy as np
from ntklib import moving

x, t = np.linspace(0, 2, 9), np.arange(5.0)[:, None]
wave = np.sin(x + t)
two = wave[:, None] * np.arange(1, 4)[:, None]
gap = np.where(x < 1, np.nan, wave[:, None])
moving.picture(
    moving.panel(
        moving.band(x, two - 1, two + 1, label="band"),
        moving.line(x, np.cos(x), label="still"),
        moving.lines(x, np.stack([two, two + 1], -2), label="lines"),
        moving.points(x + t[:, None], gap, label="points"),
        title="a panel", xlabel="x", ylabel="y",
    ),
    moving.panel(
        moving.bars(np.arange(3), np.exp(t[:, None] * np.arange(3)), span=0.5),
        moving.stems(np.arange(3), 1 + two[:1, :, :3] ** 2),
        ylog=True,
    ),
    moving.panel(moving.image(np.sin(x[:, None] * x + t[:, :, None, None]))),
    slider={"time": [f"t = {i}" for i in range(5)], "width": ["16", "64", "256"]},
    alt="Every mark that there is, moving in three panels.",
    first=(1, 2),
    notes=[[f"{i}, {j}" for j in range(3)] for i in range(5)],
    seconds=0.5,
)
"""


def executed(source: str) -> moving.Picture:
    *before, call = re.split(r"^(?=moving\.)", source, flags=re.MULTILINE)
    space: dict = {}
    exec("".join(before), space)
    return eval(call, space)


def stored(path: Path) -> list[str]:
    """The HTML of the moving pictures of a chapter."""
    cells = nbformat.read(path, as_version=4).cells
    data = [o.get("data", {}) for cell in cells for o in cell.get("outputs", ())]
    return [d["text/html"] for d in data if "moving-data" in d.get("text/html", "")]


STORED = {path.stem: stored(path) for path in CHAPTERS}
WITH_PICTURES = [name for name, found in STORED.items() if found]


@pytest.mark.parametrize("chapter", WITH_PICTURES)
def test_a_stored_picture_is_what_its_data_draw(chapter: str) -> None:
    for html in STORED[chapter]:
        redrawn = _draw.html(_draw.stored_data(html))
        assert redrawn == html, "ntklib draws it otherwise: run 'make chapters'"


# ---------- the player ----------


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A page that holds one picture and may neither load nor evaluate anything."""
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    path = tmp_path_factory.mktemp("alone") / "page.html"
    path.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>One</title>'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"></head>'
        f"<body><main>{executed(SOURCE)._repr_html_()}</main></body></html>",
        encoding="utf-8",
    )
    return path


def opened(browser, path: Path, **settings) -> tuple[Page, list[str]]:
    """A page opened from disk, and what it complains about."""
    page = browser.new_page(**{"viewport": {"width": 1000, "height": 900}, **settings})
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    return page, said


def numbers(path: str) -> np.ndarray:
    return np.array(re.findall(r"-?\d+", path), float)


def shown(picture: Locator, data: dict, now: list[int]) -> None:
    """Assert that a frame is drawn, and told, as its data say."""
    told = [s["labels"][i] for s, i in zip(data["sliders"], now, strict=True)]
    assert picture.locator(".moving-at").all_text_contents() == told
    sliders = picture.locator("input").all()
    assert [slider.get_attribute("aria-valuetext") for slider in sliders] == told
    marks = [(panel, mark) for panel in data["panels"] for mark in panel["marks"]]
    found = picture.locator("[data-mark]").evaluate_all(
        "(all) => all.map((g) => [...g.children].map((path) => path.getAttribute('d')))"
    )
    for (panel, mark), drawn in zip(marks, found, strict=True):
        for a, b in zip(_draw.paths(panel, mark, now), drawn, strict=True):
            assert re.sub(r"-?\d+", "0", a) == re.sub(r"-?\d+", "0", b)
            # Two ways to round: a ten-thousandth of the panel.
            np.testing.assert_allclose(numbers(a), numbers(b), atol=1)
    if data["notes"]:
        sizes = [len(slider["labels"]) for slider in data["sliders"]]
        note = data["notes"][np.ravel_multi_index(now, sizes)]
        assert picture.locator(".moving-note").text_content() == note


def drive(page: Page, picture: Locator, data: dict) -> None:
    """Lead a picture through frames by keyboard and by mouse."""
    now = list(data["first"])
    picture.scroll_into_view_if_needed()
    shown(picture, data, now)
    for i, slider in enumerate(picture.locator("input").all()):
        last = len(data["sliders"][i]["labels"]) - 1
        slider.focus()
        for key, frame in (
            ("End", last),
            ("ArrowLeft", last - 1),
            ("Home", 0),
            ("ArrowRight", 1),
            ("ArrowUp", min(2, last)),
        ):
            page.keyboard.press(key)
            now[i] = frame
            shown(picture, data, now)
        box = slider.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 2, middle)
        page.mouse.down()
        now[i] = 0
        shown(picture, data, now)
        page.mouse.move(box["x"] + box["width"] / 2, middle, steps=4)
        now[i] = int(slider.input_value())
        assert abs(now[i] - last / 2) <= max(1, 0.1 * last)
        shown(picture, data, now)
        page.mouse.move(box["x"] + box["width"] - 1, middle, steps=4)
        page.mouse.up()
        now[i] = last
        shown(picture, data, now)


@pytest.mark.parametrize("chapter", WITH_PICTURES)
def test_the_pictures_of_a_chapter_move(browser, chapter: str) -> None:
    page, said = opened(browser, SITE / "chapters" / f"{chapter}.html")
    pictures = page.locator("figure .moving").all()
    assert len(pictures) == len(STORED[chapter])
    for picture, html in zip(pictures, STORED[chapter], strict=True):
        drive(page, picture, _draw.stored_data(html))
    assert page.locator("figure:has(.moving) .caption-number").count() == len(pictures)
    page.close()
    assert not said


@pytest.mark.parametrize("width", [1000, 390])
def test_every_mark_moves_and_nothing_is_loaded(browser, alone: Path, width: int) -> None:
    page, said = opened(browser, alone, viewport={"width": width, "height": 900})
    drive(page, page.locator(".moving"), executed(SOURCE).data)
    whole = page.evaluate("() => document.documentElement.scrollWidth")
    assert whole <= width
    page.close()
    assert not said


def test_pictures_do_not_disturb_each_other(browser, tmp_path: Path) -> None:
    html = executed(SOURCE)._repr_html_()
    (tmp_path / "two.html").write_text(f"<meta charset=utf-8>{html}<hr>{html}", "utf-8")
    page, said = opened(browser, tmp_path / "two.html")
    one, other = page.locator(".moving").all()
    one.locator("input").first.focus()
    page.keyboard.press("End")
    data = executed(SOURCE).data
    shown(one, data, [4, 2])
    shown(other, data, [1, 2])
    page.close()
    assert not said


def test_it_plays_to_the_end_and_again_and_stops_when_told(browser, alone: Path) -> None:
    page, _ = opened(browser, alone, reduced_motion="no-preference")
    data, picture = executed(SOURCE).data, page.locator(".moving")
    button, heard = page.get_by_role("button", name="Play"), page.locator(".moving-heard")
    assert heard.text_content() == ""
    button.click()
    page.get_by_role("button", name="Pause").wait_for()
    page.locator(".moving:not([data-playing])").wait_for()
    shown(picture, data, [4, 2])
    assert heard.text_content() == "t = 4 256 4, 2"
    # From the end it begins again; a hand on the slider stops it.
    button.focus()
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('input').value === '2'")
    page.locator("input").first.focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(300)
    assert not picture.get_attribute("data-playing")
    shown(picture, data, [0, 2])
    button.click()
    page.get_by_role("button", name="Pause").click()
    now = int(page.locator("input").first.input_value())
    page.wait_for_timeout(300)
    shown(picture, data, [now, 2])
    page.close()


def test_nothing_plays_for_those_who_want_no_motion(browser, alone: Path) -> None:
    page, _ = opened(browser, alone, reduced_motion="no-preference")
    page.get_by_role("button", name="Play").click()
    page.emulate_media(reduced_motion="reduce")
    page.locator("button").wait_for(state="hidden")
    now = [int(page.locator("input").first.input_value()), 2]
    page.wait_for_timeout(300)
    shown(page.locator(".moving"), executed(SOURCE).data, now)
    page.close()
    page, _ = opened(browser, alone, reduced_motion="reduce")
    assert page.locator("button").is_hidden()
    assert page.locator("input").first.is_visible()
    page.close()


def test_on_paper_and_without_a_player_one_frame_is_seen(browser, alone: Path) -> None:
    data = executed(SOURCE).data
    page, _ = opened(browser, alone)
    page.emulate_media(media="print")
    page_without, _ = opened(browser, alone, java_script_enabled=False)
    for each in (page, page_without):
        shown_to = each.locator(".moving")
        shown(shown_to, data, data["first"])
        assert each.locator("input, button").filter(visible=True).count() == 0
        assert shown_to.locator(".moving-plot svg").first.is_visible()
        assert shown_to.locator(".moving-at").first.is_visible()
        each.close()


def test_a_picture_has_a_name_and_its_slider_says_where_it_is(browser, alone: Path) -> None:
    page, _ = opened(browser, alone)
    assert page.get_by_role("img", name="Every mark that there is").count() == 1
    assert page.get_by_role("slider", name="time").get_attribute("aria-valuetext") == "t = 1"
    assert page.get_by_role("slider", name="width").get_attribute("aria-valuetext") == "256"
    page.close()


# ---------- the comparison with what a chapter computes ----------


PLUGIN = runpy.run_path(str(ROOT / "tools" / "nbval_pictures.py"))
difference = PLUGIN["difference"]


def changed(data: dict, *keys, by) -> dict:
    """The data of a picture with one entry changed."""
    data = json.loads(json.dumps(data))
    *path, last = keys
    place = data
    for key in path:
        place = place[key]
    place[last] = by(place[last])
    return data


def test_a_picture_is_the_same_up_to_a_fraction_of_a_pixel() -> None:
    data = executed(SOURCE).data
    rng = np.random.default_rng(0)
    other = copy.deepcopy(data)
    for _, axis, values in PLUGIN["numbers"](other):
        limits = np.log(axis["limits"]) if axis["log"] else np.array(axis["limits"])
        for i, v in enumerate(values):
            step = rng.uniform(-5e-4, 5e-4) * np.ptp(limits)
            values[i] = v if v is None else v * np.exp(step) if axis["log"] else v + step
    assert other != data
    assert difference(data, other) == ""


@pytest.mark.parametrize(
    ("keys", "by", "told"),
    [
        (("alt",), str.upper, "words, looks or shapes differ"),
        (("sliders", 0, "labels", 3), str.upper, "words, looks or shapes differ"),
        (("notes", 3), str.swapcase, ""),  # nothing to swap in digits
        (("notes", 3), lambda s: s + ".", "words, looks or shapes differ"),
        (("panels", 0, "marks", 0, "color"), lambda _: "red", "words, looks or shapes differ"),
        (("panels", 1, "y", "log"), lambda _: False, "words, looks or shapes differ"),
        (("panels", 0, "y", "limits", 1), lambda v: v * 1.05, "panel 1, y: limits: differs by"),
        (
            ("panels", 0, "marks", 1, "arrays", "y", "values", 0, 3),
            lambda v: v + 0.05,
            "panel 1, mark 2, line: y, frame 0: differs by",
        ),
        (
            ("panels", 0, "marks", 3, "arrays", "y", "values", 2, 0),
            lambda v: 0.0,
            "panel 1, mark 4, points: y, frame 2: differs by",
        ),
        (
            ("panels", 1, "marks", 0, "arrays", "y", "values", 4, 2),
            lambda v: v * 1.1,
            "panel 2, mark 1, bars: y, frame 4: differs by",
        ),
        (
            ("panels", 2, "marks", 0, "arrays", "values", "values", 4, 80),
            lambda v: v + 0.01,
            "panel 3, mark 1, image: values, frame 4: differs by",
        ),
        (
            ("panels", 0, "marks", 1, "arrays", "y", "values", 0),
            lambda v: v[1:],
            "words, looks or shapes differ",
        ),
    ],
)
def test_a_difference_that_can_be_seen_is_told(keys, by, told) -> None:
    data = executed(SOURCE).data
    found = difference(data, changed(data, *keys, by=by))
    assert found.startswith(told)
    assert bool(found) == bool(told)


def test_nbval_compares_pictures_with_a_tolerance(tmp_path: Path) -> None:
    data = executed(SOURCE).data
    where = ("panels", 0, "marks", 1, "arrays", "y", "values", 0, 3)
    cells = [new_code_cell("from ntklib import moving")]
    for step in (1e-4, 0.1):
        bundle = {
            "text/plain": str(moving.Picture(data)),
            "text/html": _draw.html(changed(data, *where, by=lambda v, step=step: v + step)),
        }
        output = new_output("execute_result", bundle, execution_count=1)
        cells.append(new_code_cell(SOURCE, execution_count=1, outputs=[output]))
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.nbval_pictures", "--nbval"]
    done = subprocess.run(
        [*command, "--nbval-current-env", "-c", "pyproject.toml", tmp_path / "a.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "panel 1, mark 2, line: y, frame 0: differs by" in done.stdout
    assert len(done.stdout) < 10_000
