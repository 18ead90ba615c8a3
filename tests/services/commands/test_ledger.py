"""`lifelong ledger`."""

import json
from pathlib import Path

from tests.services.command_line import lifelong


def test_a_quick_row_is_printed_as_json_and_stored_nowhere(tmp_path: Path) -> None:
    done = lifelong("ledger", "--row", "e12", "--quick", "--json", "--docs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [name for name in map(json.loads, done.stdout.splitlines()) if not name["name"].startswith("E12.")] == []
    assert not list(tmp_path.iterdir())


def test_a_row_that_is_not_there_is_named_with_those_that_are() -> None:
    done = lifelong("ledger", "--row", "E3")
    assert done.returncode == 2
    assert "there is no row E3; there are E1, E2" in done.stderr
