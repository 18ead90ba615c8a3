"""The watcher's snapshots of a running service."""

import pytest

from evals.load.watcher import ServiceSnapshot, ServiceTotals, Watcher
from tests.evals.load.answerer import FIRST
from tests.stores import plant_plan
from wire.config import StoreConfig
from wire.records import Arm, Drift, LearnerReport, ReplicaReport, RolloutPlan
from wire.store import Store

ENDS = {"feedback.v1/0": 5, "feedback.v1/1": 2}


def report(swaps: int, *stalls_ms: float, replica: str = "a", revision: int = 1) -> ReplicaReport:
    return ReplicaReport(
        replica=replica,
        revision=revision,
        versions=(),
        time_ms=0,
        swaps=swaps,
        swap_stalls_ms=stalls_ms,
        swap_pauses_ms=tuple(stall_ms / 2 for stall_ms in stalls_ms),
    )


def test_a_publication_counts_once() -> None:
    totals = ServiceTotals()
    steps = {"solve": 5.0, "durable": 900.0}
    for version, publish_ms, read_ms in ((0, {}, 0), (4, steps, 70), (4, {"durable": 1.0}, 90), (5, {"solve": 5.0}, 0)):
        totals.add_learner(
            LearnerReport(
                learner="a", state="learning", time_ms=0, version=version, publish_ms=publish_ms, read_ms=read_ms
            )
        )
    assert totals.read_ms == {4: 70}
    assert list(totals.durable_ms) == [900.0]


def test_only_new_swaps_in_a_report_are_added() -> None:
    totals = ServiceTotals()
    for each in (report(2, 0.1, 0.2), report(2, 0.1, 0.2), report(3, 0.1, 0.2, 0.3), report(1, 9.0, replica="b")):
        totals.add_replica(each)
    assert totals.swaps == 4
    assert list(totals.stalls_ms) == [0.1, 0.2, 0.3, 9.0]
    assert list(totals.pauses_ms) == [0.05, 0.1, 0.15, 4.5]


def test_a_restarted_replica_counts_from_zero() -> None:
    totals = ServiceTotals()
    for each in (report(5, 0.1), report(1, 0.2)):
        totals.add_replica(each)
    assert totals.swaps == 6


@pytest.mark.parametrize(
    ("through", "covers", "num_missing"),
    [
        ({}, False, 7),
        ({"feedback.v1/0": 5}, False, 2),
        ({"feedback.v1/0": 5, "feedback.v1/1": 2}, True, 0),
        ({"feedback.v1/0": 9, "feedback.v1/1": 1, "answers.v1/0": 3}, False, 1),
    ],
)
def test_a_version_covers_the_offsets_up_to_which_it_was_trained(
    through: dict[str, int], covers: bool, num_missing: int
) -> None:
    plan = RolloutPlan(revision=1, salt="", arms=(Arm(name="stable", version=7, share=1.0),))
    snapshot = ServiceSnapshot(plan=plan, through={7: through}, reports=(report(1),))
    assert snapshot.covers(7, ENDS) is covers
    assert (snapshot.is_rolled_out and snapshot.covers(snapshot.stable, ENDS)) is covers
    assert snapshot.num_missing(ENDS) == num_missing


def test_nothing_is_live_before_every_replica_follows_the_plan() -> None:
    plan = RolloutPlan(revision=2, salt="", arms=(Arm(name="stable", version=7, share=1.0),))
    behind = ServiceSnapshot(plan=plan, through={7: ENDS}, reports=(report(1, revision=2), report(1, replica="b")))
    assert not behind.is_rolled_out
    assert not ServiceSnapshot(plan=plan, through={7: ENDS}).is_rolled_out
    assert not ServiceSnapshot().is_rolled_out


def test_a_watcher_sees_an_empty_store(store: Store) -> None:
    watcher = Watcher(store)
    watcher.poll()
    assert watcher.snapshot() == ServiceSnapshot()
    assert not watcher.wait(lambda snapshot: snapshot.plan is not None, 0.01)


def test_a_watcher_sees_drifts(store: Store) -> None:
    drift = Drift(signal="error", at_label=9, before=0.0, after=1.0)
    counts = {"learnt": 9, "drift_error": 2, "drift_distance": 1}
    store.reports.write_learner(LearnerReport(learner="l", state="learning", time_ms=0, counts=counts, drifts=(drift,)))
    watcher = Watcher(store)
    watcher.poll()
    assert (watcher.snapshot().drifts, watcher.snapshot().drift) == (3, drift)


def test_a_replaced_replica_is_counted(store: Store) -> None:
    watcher = Watcher(store)
    for name, replaced in (("a", 0), ("a", 0), ("b", 1)):
        store.reports.write_replica(report(0, replica=name))
        watcher.poll()
        assert watcher.snapshot().replaced == replaced


def test_a_version_without_a_manifest_is_skipped(store: Store, store_config: StoreConfig) -> None:
    plan = RolloutPlan(revision=1, salt="", arms=(Arm(name="stable", version=FIRST.version, share=1.0),))
    plant_plan(store_config, plan)
    watcher = Watcher(store)
    watcher.poll()
    assert watcher.snapshot().stable == FIRST.version
    assert watcher.snapshot().served is None
