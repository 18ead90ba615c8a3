"""Tests reports: only reports of live processes are returned."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.stores import KEYS
from wire.config import StoreConfig
from wire.records import ControllerReport, ReplicaReport
from wire.store import Store
from wire.store.reports import MAX_REPORTS

Key = Callable[..., str]


def make_report(replica: str, time_ms: int = 1) -> ReplicaReport:
    return ReplicaReport(
        replica=replica,
        revision=2,
        versions=(3, 4),
        time_ms=time_ms,
        counts={"answers": 5},
        swap_stalls_ms=(0.5,),
        keys=KEYS.accepted,
    )


def test_the_last_word_of_each_replica_is_listed_latest_first(store: Store) -> None:
    for report in (make_report("a", 1), make_report("b", 2), make_report("a", 3)):
        store.reports.write_replica(report)
    assert store.reports.replicas() == [make_report("a", 3), make_report("b", 2)]


def test_nobody_reported_yet(store: Store) -> None:
    assert store.reports.replicas() == []


def test_a_report_expires(store: Store, store_config: StoreConfig, raw: Any, key: Key) -> None:
    store.reports.write_replica(make_report("a"))
    store.reports.write_replica(make_report("b"))
    assert raw.pttl(key("report", "a")) in range(1, store_config.report_ttl_ms + 1)
    raw.pexpire(key("report", "a"), 0)
    assert store.reports.replicas() == [make_report("b")]


@pytest.mark.parametrize("body", [b'{"replica": 5}', b"", b"\xff", b"[]", b"{}", b'"a"'])
def test_a_report_that_cannot_be_read_hides_no_other(store: Store, raw: Any, key: Key, body: bytes) -> None:
    """B23."""
    store.reports.write_replica(make_report("a"))
    raw.set(key("report", "zombie"), body)
    raw.zadd(key("reports"), {"zombie": 9e15})
    for name in ("learner", "controller"):
        raw.set(key(name), body)
    assert store.reports.replicas() == [make_report("a")]
    assert (store.reports.learner(), store.reports.controller()) == (None, None)
    assert store.reports.num_unreadable == 3


def test_the_controller_is_heard_of_for_a_while(store: Store, store_config: StoreConfig, raw: Any, key: Key) -> None:
    assert store.reports.controller() is None
    report = ControllerReport(controller="c", time_ms=1, alarms=("collect: ...",), keys=KEYS.accepted)
    store.reports.write_controller(report)
    assert store.reports.controller() == report
    assert raw.pttl(key("controller")) in range(1, store_config.report_ttl_ms + 1)


def test_the_list_is_bounded(store: Store, raw: Any, key: Key) -> None:
    raw.zadd(key("reports"), {f"gone{number}": number for number in range(MAX_REPORTS + 50)})
    store.reports.write_replica(make_report("a", 10_000))
    assert raw.zcard(key("reports")) == MAX_REPORTS
    assert store.reports.replicas() == [make_report("a", 10_000)]


def test_every_program_that_runs_is_named(store: Store) -> None:
    assert store.reports.programs() == {}
    store.reports.write_replica(make_report("a"))
    store.reports.write_controller(ControllerReport(controller="c", time_ms=1))
    reports = store.reports.programs()
    assert list(reports) == ["replica a", "rollout c"]
    assert {report.keys for report in reports.values()} == {KEYS.accepted}
