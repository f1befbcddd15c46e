"""A browser and a server for the built pages, and one line that tells what was looked at."""

import functools
import os
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
COUNTS = pytest.StashKey[Counter]()


@pytest.fixture(scope="session")
def browser():
    quiet = [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-gpu",
        "--disable-quic",
        "--disable-sync",
        "--no-first-run",
        "--no-sandbox",
    ]
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=quiet)
        yield chromium
        chromium.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the log of requests out of the test's output."""


@pytest.fixture(scope="session")
def serve():
    """A function that serves a folder on a free port and returns its address."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def address(serve):
    if not (SITE / "index.html").is_file():
        pytest.fail("the book is not built: run 'make book' first")
    return serve(SITE)


@pytest.fixture(scope="session")
def counts(pytestconfig):
    """What the tests of the site counted."""
    return pytestconfig.stash.setdefault(COUNTS, Counter())


def pytest_sessionfinish(session):
    # A worker of xdist tells the one who started it.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["counts"] = dict(session.config.stash.get(COUNTS, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    found = node.config.stash.setdefault(COUNTS, Counter())
    found.update(getattr(node, "workeroutput", {}).get("counts", {}))


def pytest_terminal_summary(terminalreporter):
    counted = terminalreporter.config.stash.get(COUNTS, None)
    if counted:
        told = ", ".join(f"{number} {thing}" for thing, number in sorted(counted.items()))
        terminalreporter.write_line(f"Site: {told}")
