"""The built book in a real browser: every page, wide and narrow, light and dark.

Each check is a function from an open page to a list of complaints, and is shown to bite on a
page that is bad in every way that the checks know.
"""

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import numpy as np
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from matplotlib import image
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Page

from ntklib import figures
from ntklib.verify import KINDS, MIME

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
LEGIBLE = 4.5  # contrast of text, WCAG 2.1 AA
ADDRESS = "https://github.com/owner/name"


def listed(toc: dict) -> Iterator[str]:
    """The pages that a table of contents names."""
    yield from (toc[key] for key in ("root", "file") if key in toc)
    for key in ("parts", "chapters", "sections"):
        for entry in toc.get(key, []):
            yield from listed(entry)


TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
PAGES = [f"{page}.html" for page in listed(TOC)]


def ready(page: Page) -> None:
    """Wait until MathJax has typeset the page, if it is there at all."""
    page.evaluate("() => window.MathJax?.startup?.promise")


def watch(page: Page, home: str) -> list[str]:
    """Complaints that come while a page loads: errors, and requests to elsewhere."""
    complaints = []

    def asked(request):
        if not request.url.startswith((home, "data:", "blob:")):
            complaints.append(f"request to another host: {request.url}")

    def said(message):
        if message.type in ("error", "warning"):
            complaints.append(f"console {message.type}: {message.text}")

    def answered(response):
        if response.status >= 400:
            complaints.append(f"answer {response.status}: {response.url}")

    page.on("request", asked)
    page.on("response", answered)
    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    page.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url}"))
    return complaints


# ---------- checks: each takes an open page and lists what is wrong ----------

RAW_TEX = (
    r"\\[(\[]|\\(?:begin|frac|sum|int|math[a-z]+|langle|lVert|alpha|lambda|varphi|to|le)\b|\$\$"
)


def formulas(page: Page) -> list[str]:
    found = page.evaluate(
        """(tex) => {
        const bad = [], raw = new RegExp(tex);
        for (const box of document.querySelectorAll(".math")) {
            if (!box.querySelector("mjx-container svg"))
                bad.push("not typeset: " + box.textContent.slice(0, 60));
        }
        const red = 'mjx-merror, [data-mml-node="merror"], [fill="red"], [data-mjx-error]';
        for (const box of document.querySelectorAll("mjx-container"))
            if (box.querySelector(red)) bad.push("in error: " + box.textContent.slice(0, 60));
        const skip = "pre, code, script, style, mjx-container, textarea";
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
            const node = walk.currentNode;
            if (raw.test(node.data) && !node.parentElement.closest(skip))
                bad.push("raw TeX: " + node.data.trim().slice(0, 60));
        }
        return bad;
        }""",
        RAW_TEX,
    )
    typeset = page.locator("mjx-container").count()
    expected = page.locator(".math").count()
    return found + [f"{expected} formulas, {typeset} typeset"] * (typeset != expected)


def ids(page: Page) -> list[str]:
    return page.evaluate(
        """() => {
        const seen = new Map();
        for (const {id} of document.querySelectorAll("[id]")) seen.set(id, 1 + (seen.get(id) ?? 0));
        return [...seen].filter(([, n]) => n > 1).map(([id, n]) => `id ${id} stands ${n} times`);
        }"""
    )


def pictures(page: Page) -> list[str]:
    """In the text every picture says what it shows; elsewhere it may be declared decoration."""
    return page.evaluate(
        """() => [...document.images].filter((i) =>
            i.closest("article") ? !i.alt.trim() : !i.hasAttribute("alt")
        ).map((i) => `no alt text: ${i.getAttribute("src")}`)"""
    )


def accessibility(page: Page, rules: list[str] | None = None) -> list[str]:
    options: dict = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = rules
    violations = Axe().run(page, options=options).response["violations"]
    return [
        f"axe {v['id']}: {node['html'][:120]}"
        for v in violations
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


def contrasts(page: Page) -> list[str]:
    """Contrast of the text with what is painted under it, in the theme that is on."""
    return page.evaluate(
        """([least, selector]) => {
        const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
        const luminance = (colours) => {
            canvas.clearRect(0, 0, 1, 1);
            for (canvas.fillStyle of colours) canvas.fillRect(0, 0, 1, 1);
            const part = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
                .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
        };
        const bad = new Set();
        for (const e of document.querySelectorAll(selector)) {
            const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
            const shown = e.checkVisibility({visibilityProperty: true, opacityProperty: true});
            if (!text || !shown) continue;
            const under = [];
            for (let a = e; a; a = a.parentElement)
                under.unshift(getComputedStyle(a).backgroundColor);
            const back = luminance(["white", ...under]);
            const front = luminance(["white", ...under, getComputedStyle(e).color]);
            const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
            const what = `${e.tagName} ${e.className} ${e.textContent.slice(0, 40)}`;
            if (ratio < least) bad.add(`contrast ${ratio.toFixed(1)}: ${what}`);
        }
        return [...bad];
        }""",
        [LEGIBLE, "article *:not(script, style, mjx-container *, .headerlink), nav *"],
    )


def overflow(page: Page) -> list[str]:
    """Sideways overflow of the page, and boxes that scroll but that no key can reach."""
    return page.evaluate(
        """() => {
        const bad = [], width = document.documentElement.clientWidth;
        const clips = (e, ...how) => how.includes(getComputedStyle(e).overflowX);
        const whole = document.scrollingElement.scrollWidth;
        if (whole > width) bad.push(`the page is ${whole} wide, the window ${width}`);
        for (const e of document.querySelectorAll("article *:not(mjx-container *)")) {
            if (!e.checkVisibility({visibilityProperty: true})) continue;
            if (clips(e, "auto", "scroll") && e.scrollWidth > e.clientWidth + 1 && e.clientWidth
                && e.tabIndex < 0 && !e.querySelector("a, button"))
                bad.push(`scrolls, and no key can reach it: ${e.tagName}.${e.className}`);
            if (e.getBoundingClientRect().right <= width + 1) continue;
            let box = e.parentElement;
            while (box && !clips(box, "auto", "scroll", "hidden")) box = box.parentElement;
            const what = `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 40)}`;
            if (!box || box.matches("html, body")) bad.push(`sticks out: ${what}`);
        }
        return bad;
        }"""
    )


@functools.cache
def anchors(file: Path) -> frozenset[str]:
    soup = BeautifulSoup(file.read_text("utf8"), "html.parser")
    return frozenset(tag["id"] for tag in soup.find_all(id=True))


def links(page: Page, home: str, folder: Path) -> tuple[int, list[str]]:
    """How many links stay inside the book, and those that lead nowhere."""
    inside, bad = 0, []
    for url in page.eval_on_selector_all("a[href]", "(all) => all.map((a) => a.href)"):
        if not url.startswith(home):
            continue
        inside += 1
        address, anchor = urldefrag(url)
        file = folder / unquote(urlsplit(address).path).removeprefix("/")
        file = file / "index.html" if file.is_dir() else file
        if not file.is_file():
            bad.append(f"no such page: {url}")
        elif anchor and file.suffix == ".html" and unquote(anchor) not in anchors(file):
            bad.append(f"no such anchor: {url}")
    return inside, bad


# ---------- the book ----------


def stored_claims(path: Path) -> list[dict]:
    outputs = (o for c in nbformat.read(path, 4).cells for o in c.get("outputs", ()))
    return [o["data"][MIME] for o in outputs if MIME in o.get("data", {})]


def test_every_page_of_the_contents_is_built_and_no_other():
    built = {path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html")}
    built = {page for page in built if not page.startswith(("_static/", "_sources/"))}
    assert built == {*PAGES, "search.html"}


@pytest.mark.parametrize("name", [*PAGES, "search.html"])
def test_page(name, browser, address, counts):
    page = browser.new_page(viewport=WIDE, color_scheme="light", reduced_motion="reduce")
    complaints = watch(page, address)
    page.goto(address + name)
    ready(page)
    inside, dead = links(page, address, SITE)
    complaints += formulas(page) + ids(page) + pictures(page) + dead
    complaints += contrasts(page)
    number = page.locator("mjx-container").count()

    page.set_viewport_size(NARROW)
    page.evaluate("() => document.querySelectorAll('.toggle-button').forEach((b) => b.click())")
    page.evaluate("() => new Promise((done) => setTimeout(done, 300))")
    complaints += [f"narrow: {complaint}" for complaint in overflow(page)]

    # Formulas are made alike, and so is code; axe is slow, so a few of them stand for all.
    page.set_viewport_size(WIDE)
    page.evaluate(
        """() => {
        const thin = (what, few) =>
            document.querySelectorAll(what).forEach((e, i) => i < few || e.remove());
        thin("mjx-container", 30);
        thin("pre", 10);
        }"""
    )
    complaints += accessibility(page)

    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    dark = contrasts(page) + accessibility(page, ["color-contrast"])
    complaints += [f"dark: {complaint}" for complaint in dark]

    counts["pages"] += 1
    counts["formulas"] += number
    counts["links inside the book"] += inside
    counts["pictures in the text"] += page.locator("article img").count()
    page.close()
    assert not complaints, "\n".join(complaints)


def test_boxes_lead_to_their_checks_and_back(browser, address, counts):
    page = browser.new_page(viewport=WIDE)
    notebooks = [path for page in listed(TOC) if (path := ROOT / f"{page}.ipynb").exists()]
    stored = {path.stem: stored_claims(path) for path in notebooks}
    for chapter, claims in stored.items():
        page.goto(f"{address}chapters/{chapter}.html")
        ready(page)
        assert page.locator(".claim").count() == page.locator(".box-check").count() == len(claims)
        for label in (claim["label"] for claim in claims):
            mark = page.locator(f"[id='{label}'] .box-check")
            back = page.locator(f"[id='check-{label}'] .claim-box")
            assert mark.get_attribute("href") == f"#check-{label}"
            assert back.get_attribute("href") == f"#{label}"
            name = page.locator(f"[id='{label}'] .caption-number").text_content().strip()
            assert back.text_content().startswith(name)
            assert re.search(r" \d+\.\d+$", name)
        if claims:
            mark.click()
            page.wait_for_url(f"**#check-{label}")
            back.click()
            page.wait_for_url(f"**#{label}")
    total = sum(map(len, stored.values()))
    assert total, "the book has no claims"
    page.goto(f"{address}chapters/ledger.html")
    ready(page)
    rows = page.locator("table.ledger tbody tr")
    assert rows.count() == total
    for claim in (c for s in stored.values() for c in s):
        row = rows.filter(has=page.locator(f"a[href$='#{claim['label']}']"))
        assert row.count() == 1
        for line in [*claim["checks"], *claim["controls"]]:
            assert line["statement"] in row.inner_text()
    counts["claims"] = total

    row.locator("a[href*='#check-']").click()
    page.wait_for_url("**#check-*")
    ready(page)
    page.wait_for_timeout(300)
    top = page.locator(f"[id='check-{claim['label']}']").bounding_box()["y"]
    assert 0 <= top < WIDE["height"] / 4, "the formulas above pushed the claim out of sight"
    page.close()


def test_code_leads_to_the_library_and_the_library_to_the_formulas(browser, address):
    page = browser.new_page(viewport=WIDE)
    for path in ROOT.glob("chapters/*.ipynb"):
        page.goto(f"{address}chapters/{path.stem}.html")
        assert page.locator("pre a[href*='api.html#ntklib']").count() > 0, path.stem
    page.goto(f"{address}chapters/api.html")
    assert page.locator("dl.py a[href*='#equation-']").count() > 0
    page.close()


def test_search_finds_a_word(browser, address):
    page = browser.new_page(viewport=WIDE)
    complaints = watch(page, address)
    page.goto(f"{address}index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("kernel")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=kernel*")
    # Results come one by one: this waits for the one, and fails without it.
    page.locator("#search-results li a[href*='rkhs']").first.wait_for()
    assert not complaints, "\n".join(complaints)
    page.close()


def test_the_theme_can_be_chosen(browser, address):
    page = browser.new_page(viewport=WIDE, color_scheme="light")
    page.goto(f"{address}index.html")
    seen = set()
    for _ in range(3):
        page.locator(".theme-switch-button").first.click()
        theme = page.locator("html").get_attribute("data-theme")
        shown = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        rgb = tuple(int(figures.PAGES[theme][i : i + 2], 16) for i in (1, 3, 5))
        assert shown == f"rgb{rgb}"
        seen.add(theme)
    assert seen == {"light", "dark"}
    page.close()


def test_the_book_opens_from_disk(browser):
    page = browser.new_page(viewport=WIDE)
    home = SITE.resolve().as_uri() + "/"
    complaints = watch(page, home)
    page.goto(f"{home}index.html")
    page.locator("article a[href*='rkhs']").first.click()
    page.wait_for_url("**/rkhs.html")
    ready(page)
    assert page.locator("mjx-container").count() > 0
    complaints += formulas(page)
    assert not complaints, "\n".join(complaints)
    page.close()


def test_the_home_picture_is_what_its_script_draws(tmp_path):
    drawn = tmp_path / "home.png"
    subprocess.run([sys.executable, ROOT / "figures" / "home.py", drawn], check=True)
    new, kept = image.imread(drawn), image.imread(ROOT / "figures" / "home.png")
    assert new.shape == kept.shape
    assert np.abs(new - kept).mean() < 1e-3


# ---------- small books: launch buttons, and what the build refuses ----------


def claim_output(label: str, kind: str = "proved"):
    claim = {"label": label, "kind": KINDS[kind], "checks": [], "controls": []}
    return new_output("display_data", {"text/plain": label, MIME: claim})


def box(name: str, label: str, kind: str = "") -> str:
    options = f":label: {label}\n" + (f":class: {kind}\n" if kind else "")
    return f":::{{prf:{name}}} Title\n{options}\nText of ${label[-1]}$.\n:::\n"


def build(folder: Path, url: str, text: str, outputs: list) -> subprocess.CompletedProcess:
    """Build a book of one chapter with this book's own settings."""
    for name in ("_ext", "_templates", "_assets"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "references.bib", folder)
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    config["repository"]["url"] = url
    (folder / "_config.yml").write_text(yaml.safe_dump(config), "utf8")
    toc = {"format": "jb-book", "root": "index", "options": {"numbered": True}}
    toc["chapters"] = [{"file": "chapters/tiny"}]
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), "utf8")
    (folder / "index.md").write_text("# Home\n\nText.\n", "utf8")
    cells = [new_markdown_cell(text), new_code_cell("1", execution_count=1, outputs=outputs)]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    (folder / "chapters").mkdir()
    nbformat.write(notebook, folder / "chapters" / "tiny.ipynb")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", folder, "-n", "-W"]
    return subprocess.run(
        [*command, "--keep-going"], capture_output=True, text=True, encoding="utf8"
    )


def launches(html: str) -> set[str]:
    tags = BeautifulSoup(html, "html.parser").select(".article-header-buttons a[href]")
    return {tag["href"] for tag in tags if tag["href"].startswith("https://")}


def test_with_an_address_chapters_can_be_launched(tmp_path):
    done = build(tmp_path, ADDRESS, "# Tiny\n\n" + box("lemma", "lem-a"), [claim_output("lem-a")])
    assert done.returncode == 0, done.stdout + done.stderr
    html = (tmp_path / "_build" / "html" / "chapters" / "tiny.html").read_text("utf8")
    assert launches(html) == {
        "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/chapters/tiny.ipynb",
        "https://colab.research.google.com/github/owner/name/blob/main/chapters/tiny.ipynb",
        ADDRESS,
    }
    assert 'href="#check-lem-a"' in html


def test_without_an_address_nothing_is_launched():
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    for path in ROOT.glob("chapters/*.ipynb"):
        html = (SITE / "chapters" / f"{path.stem}.html").read_text("utf8")
        assert bool(launches(html)) == bool(config["repository"]["url"])


def test_the_build_refuses_boxes_and_checks_that_do_not_match(tmp_path):
    text = "# Tiny\n\n" + "\n".join(
        [
            box("theorem", "thm-alone"),
            box("lemma", "lem-twice"),
            box("corollary", "cor-cited", "cited"),
            box("definition", "def-free"),
        ]
    )
    labels = ["lem-twice", "lem-twice", "cor-cited", "prop-lost"]
    done = build(tmp_path, "", text, [claim_output(label) for label in labels])
    assert done.returncode != 0
    told = set(re.findall(r"WARNING: ((?:\w+-\w+): .*?)(?:\x1b|$)", done.stderr, flags=re.M))
    assert told == {
        "thm-alone: a box without a check",
        "lem-twice: checked twice",
        "cor-cited: the box is cited, its check is not",
        "prop-lost: a check without a box",
    }


# ---------- every check bites ----------

BAD = r"""<!doctype html><html lang="en"><head><title>Bad</title><meta name="viewport"
content="width=device-width"><link rel="icon" href="data:,">
<script>window.MathJax = {options: {enableMenu: false}}</script>
<script defer src="mathjax/tex-svg-full.js"></script></head><body><article>
<h1 id="twice">Bad</h1><p id="twice">Raw \lambda here.</p>
<p><span class="math">\(\undefinedmacro\)</span></p>
<p><span class="math">never typeset</span></p>
<p><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></p>
<p><a href="nowhere.html">page</a> <a href="#nowhere">anchor</a></p>
<p style="color: #999; background: #fff">Faint.</p>
<p style="width: 600px">Too wide for a telephone.</p>
<div class="box" style="overflow-x: auto"><p style="width: 900px">Out of reach.</p></div>
<p><button></button></p>
<script>console.error("said"); setTimeout(() => { throw new Error("thrown") });
fetch("http://other.invalid/").catch(() => {})</script>
</article></body></html>"""


def test_every_check_bites(tmp_path, browser, serve):
    (tmp_path / "bad.html").write_text(BAD, "utf8")
    (tmp_path / "mathjax").symlink_to(ROOT / "_assets" / "mathjax")
    home = serve(tmp_path)
    page = browser.new_page(viewport=NARROW)
    seen = watch(page, home)
    page.goto(f"{home}bad.html")
    ready(page)
    page.wait_for_timeout(300)
    told = {
        "loading": seen,
        "formulas": formulas(page),
        "ids": ids(page),
        "pictures": pictures(page),
        "links": links(page, home, tmp_path)[1],
        "contrasts": contrasts(page),
        "accessibility": accessibility(page),
        "overflow": overflow(page),
    }
    page.close()
    expected = {
        "loading": [
            "request to another host: http://other.invalid/",
            "console error: said",
            "script error: thrown",
            "not loaded: http://other.invalid/",
        ],
        "formulas": ["not typeset: never", "in error", "raw TeX: Raw", "2 formulas, 1 typeset"],
        "ids": ["id twice stands 2 times"],
        "pictures": ["no alt text: data:image"],
        "links": ["no such page", "no such anchor"],
        "contrasts": ["contrast 2.8: P  Faint."],
        "accessibility": ["axe image-alt", "axe button-name", "axe color-contrast"],
        "overflow": [
            "the page is 6",
            "scrolls, and no key can reach it: DIV.box",
            "sticks out: P. Too wide",
        ],
    }
    for check, starts in expected.items():
        for start in starts:
            assert any(t.startswith(start) for t in told[check]), json.dumps(told, indent=1)
