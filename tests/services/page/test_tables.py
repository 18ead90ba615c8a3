"""Tests the tables that are built from the reports."""

from dataclasses import replace

import msgspec
import pytest

from services.commands.rollout_text import NOTHING
from services.page.rates import ReplicaTraffic
from services.page.tables import MAX_ROWS, build_tables, learner, rollout, versions
from tests.services.page.states import DECISION, HISTORY, LEARNER, PLAN, status
from wire.records import ControllerReport, LabelRate

TRAFFIC = {"r1": ReplicaTraffic(25.0, (0, 0, 0, 10, *[0] * 9))}


@pytest.mark.parametrize("is_whole", [True, False])
def test_every_row_has_a_cell_for_each_column(is_whole: bool) -> None:
    tables = build_tables(status(is_whole=is_whole), [DECISION] if is_whole else [], TRAFFIC)
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows)
    with_rows = {name for name, table in tables.items() if table.rows}
    assert with_rows == (tables.keys() if is_whole else {"alarms", "rollout"})


def test_an_arm_has_its_accuracy_with_its_bounds_where_labels_came() -> None:
    assert list(build_tables(status(), [], {})["arms"].rows) == [
        ("stable", 11, 0.9, 0.75, 0.5, 0.9, 20),
        ("candidate", 12, 0.1, None, 0.0, 1.0, 0),
    ]


def test_versions_have_each_thing_once_and_the_newest_first() -> None:
    rows = versions([DECISION], HISTORY).rows
    assert [row[:3] for row in rows] == [(950, 12, "published"), (900, 11, "promoted")]
    assert rows[1][3:] == ("B", "better by 9 labels")
    assert len(versions([DECISION] * 99, HISTORY).rows) == MAX_ROWS


def test_a_replica_has_what_it_does_now() -> None:
    (row,) = build_tables(status(), [], TRAFFIC)["replicas"].rows
    assert row[:5] == ("r1", "11, 12", PLAN.revision, "base", "1 of 2")
    assert row[5] == 25.0
    assert row[6:8] == (7.5, 9.95)


def test_alarms_are_of_every_process_and_of_those_that_are_silent() -> None:
    assert build_tables(status(), [], {})["alarms"].rows == (
        ("rollout", "collect: it is gone"),
        ("learner", "'refund' is said to be 'delivery'"),
        ("r1", "the promise accuracy of 0.9 is not kept"),
    )
    silent = build_tables(status(is_whole=False), [], {})["alarms"].rows
    assert [by for by, _ in silent] == ["rollout", "learner", "store"]


def test_labels_that_were_not_believed_are_named() -> None:
    assert build_tables(status(), [], {})["labels"].rows == (("learnt", 40), ("not believed", "3 forged"))


def test_the_rollout_has_what_labels_say_and_what_the_decision_waits_for() -> None:
    rates = (LabelRate(arm="stable", answers=9, labels=3), LabelRate(arm="newest", answers=2, labels=1))
    controller = ControllerReport(
        controller="c", time_ms=1, evidence="12 wins", waits_for="too close to call", label_rates=rates
    )
    assert rollout(replace(status(), controller=controller)).rows[1:] == (
        ("current version", "12"),
        ("evidence", "12 wins"),
        ("not decided", "too close to call"),
        ("labels", "stable 3 of 9 answers, newest 1 of 2 answers, at the present shares"),
    )
    nothing = replace(status(is_whole=False), current=0)
    assert rollout(nothing).rows == (
        ("plan", NOTHING),
        ("current version", "none"),
        ("evidence", "no controller has reported"),
    )


def test_promises_have_what_was_measured() -> None:
    assert build_tables(status(), [], {})["promises"].rows == (
        ("r1", "p99_ms", "<= 150", "12.5", "kept"),
        ("r1", "accuracy", ">= 0.9", "0.8", "NOT KEPT"),
        ("r1", "model_mb", "<= 9", "nothing measured", ""),
    )


def test_a_learner_says_what_the_gate_refused() -> None:
    refused = msgspec.structs.replace(LEARNER, refusals=("accuracy",), counts={"gate_in_a_row": 2})
    assert ("refused", "2 versions in a row, the last as accuracy") in learner(refused).rows
    assert "refused" not in [name for name, _ in learner(LEARNER).rows]
