"""`lifelong rollout status`."""

import json
from collections.abc import Callable
from typing import Any

from tests.services.command_line import lifelong
from wire.records import ControllerReport
from wire.store import Store


def test_the_status_of_the_rollout_shows_evidence_and_what_goes_wrong(
    store: Store, raw: Any, key: Callable[..., str], there: dict[str, str]
) -> None:
    """B1, B23."""
    assert "evidence: no controller has reported\n" in lifelong("rollout", "status", **there).stdout
    evidence = "candidate 45/50 (90.0%), stable 180/200 (90.0%)"
    store.reports.write_controller(
        ControllerReport(controller="c", time_ms=1, evidence=evidence, alarms=("collect: NotFound: it is gone",))
    )
    raw.persist(key("controller"))  # a busy machine may take longer to start the command than a report lives
    raw.set(key("learner"), b"no report")
    done = lifelong("rollout", "status", **there)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    alarms = ("ALARM: rollout: collect: NotFound: it is gone", "ALARM: store: 1 reports cannot be read")
    assert {f"evidence: {evidence}", *alarms} <= {*lines}
    assert json.loads(lifelong("rollout", "status", "--json", **there).stdout)["controller"]["evidence"] == evidence
