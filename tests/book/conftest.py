"""One line at the end of the run: what was looked at on the built pages."""

from collections import Counter

import pytest

COUNTS = pytest.StashKey[Counter]()


@pytest.fixture(scope="session")
def counts(pytestconfig):
    """What the tests of the site counted."""
    return pytestconfig.stash.setdefault(COUNTS, Counter())


def pytest_terminal_summary(terminalreporter):
    counted = terminalreporter.config.stash.get(COUNTS, None)
    if counted:
        told = ", ".join(f"{number} {thing}" for thing, number in counted.items())
        terminalreporter.write_line(f"Site: {told}")
