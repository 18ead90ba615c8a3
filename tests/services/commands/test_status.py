"""`lifelong status`."""

import json
from contextlib import closing
from dataclasses import replace

import pytest

from tests.services.command_line import lifelong
from tests.services.page.states import LEARNER
from tests.stores import KEYS
from wire.config import StoreConfig
from wire.store import Store


@pytest.mark.parametrize("command", [("status",), ("top", "--once"), ("rollout", "status")])
def test_it_shows_the_reports_once(store_config: StoreConfig, there: dict[str, str], command: tuple[str, ...]) -> None:
    with closing(Store(replace(store_config, report_ttl_ms=3_600_000), KEYS)) as store:
        store.reports.write_learner(LEARNER)
    shown = lifelong(*command, **there)
    assert (shown.returncode, "right, all answers 75.0 %" in " ".join(shown.stdout.split())) == (0, True), shown.stderr


def test_json_is_the_state_that_the_page_shows(store_config: StoreConfig, there: dict[str, str]) -> None:
    with closing(Store(replace(store_config, report_ttl_ms=3_600_000), KEYS)) as store:
        store.reports.write_learner(LEARNER)
    state = json.loads(lifelong("status", "--json", **there).stdout)
    assert state["tables"]["confusions"]["rows"] == [["refund", "delivery", 3]]
    assert {"name": "not read yet", "value": 4, "kind": "count"} in state["figures"]


@pytest.mark.parametrize("command", [("status",), ("top", "--once")])
def test_nothing_is_shown_of_what_does_not_run(tmp_path: object, command: tuple[str, ...]) -> None:
    assert lifelong(*command, LIFELONG_STATE_DIR=str(tmp_path)).returncode == 75
