"""The table of what intervals and gates promise, at the end of a run that measured it."""

import pytest

from tests.verdict.promises import Row, table

ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def promises(request: pytest.FixtureRequest) -> list[Row]:
    """Where a test leaves the rows that it measured."""
    return request.config.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section("promises: in percent, false failures over K independent cells")
        terminalreporter.line(table(rows))
