"""`--again`: a test that fails runs once more, only to tell what always fails from what fails now and then.

It has failed in any case. The run ends with the names of those that passed only when they ran again.
"""

from typing import Any

import pytest
from _pytest.runner import runtestprotocol

PASSED_AGAIN = "passed only when it ran again"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--again", action="store_true", help="run what fails once more, and say what passed then")


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Runs a test, and once more if it fails. Its reports are those of the first time."""
    if not item.config.getoption("--again"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    failed = [report for report in reports if report.failed]
    if failed:
        item._initrequest()  # type: ignore[attr-defined] # fixtures of its own for the second time
        again = runtestprotocol(item, log=False, nextitem=nextitem)
        if not any(report.failed for report in again):
            failed[0].user_properties.append((PASSED_AGAIN, True))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says how many tests passed only when they ran again, and which."""
    if not terminalreporter.config.getoption("--again"):
        return
    reports = [*terminalreporter.stats.get("failed", []), *terminalreporter.stats.get("error", [])]
    names = [report.nodeid for report in reports if (PASSED_AGAIN, True) in map(tuple, report.user_properties)]
    terminalreporter.section("again")
    terminalreporter.write_line(f"{len(names)} of {len(reports)} failures passed when they ran again")
    for name in names:
        terminalreporter.write_line(f"    {name}")
