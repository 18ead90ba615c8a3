"""Tests the plan: compare and swap on its revision."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.stores import KEYS, build_manifest, take_lease
from wire.errors import BadSignature, NotFound, PlanMoved, UnknownFormat
from wire.records import Arm, Decision, RolloutPlan
from wire.store import Store

Key = Callable[..., str]
Open = Callable[[], Store]


def build_plan(revision: int, version: int = 0, reason: str = "") -> RolloutPlan:
    arms = (Arm(name="stable", version=version, share=1.0),)
    return RolloutPlan(revision=revision, salt="s", arms=arms, reason=reason)


def test_there_is_no_plan_at_first(store: Store) -> None:
    assert store.plans.read() is None


def publish(store: Store, through: int) -> None:
    lease = take_lease(store)
    for version in range(1, through + 1):
        store.versions.publish(build_manifest(store, version, epoch=lease.epoch), lease)


def test_a_plan_is_read_back_and_followed_by_the_next(store: Store) -> None:
    publish(store, 3)
    for revision in (1, 2, 3):
        store.plans.write(build_plan(revision, version=revision))
        assert store.plans.read() == build_plan(revision, version=revision)


@pytest.mark.parametrize("revision", [0, 1, 2, 4])
def test_a_plan_that_does_not_follow_is_refused(store: Store, revision: int) -> None:
    store.plans.write(build_plan(1))
    store.plans.write(build_plan(2))
    with pytest.raises(PlanMoved, match="revision 2 is in force"):
        store.plans.write(build_plan(revision, reason="mine"), Decision(version=1, action="promoted", time_ms=1))
    assert (store.plans.read(), store.plans.decisions.since(0, 5)) == (build_plan(2), [])


def test_repeating_a_plan_changes_nothing(store: Store, raw: Any, key: Key) -> None:
    decision = Decision(version=1, action="promoted", time_ms=5, reason="95 of 100")
    for _ in range(3):
        store.plans.write(build_plan(1), decision)
    assert (store.plans.decisions.since(0, 5), raw.get(key("changes"))) == ([decision], b"1")


def test_a_rollback_sets_the_pointer_in_the_same_step(store: Store) -> None:
    publish(store, 2)
    store.plans.write(build_plan(1, 1), Decision(version=2, action="withdrawn", time_ms=9), current=1)
    assert (store.versions.current(), store.versions.next_number()) == (1, 3)
    assert store.plans.decisions.since(0, 1)[0].action == "withdrawn"
    store.versions.publish(build_manifest(store, 3, parent=1, epoch=1), take_lease(store))
    assert store.versions.current() == 3


def test_a_pointer_to_nothing_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="version 9"):
        store.plans.write(build_plan(1), current=9)
    assert (store.plans.read(), store.versions.current()) == (None, 0)
    store.plans.write(build_plan(1), current=0)


STABLE_1, STABLE_9 = (Arm(name="stable", version=version, share=0.8) for version in (1, 9))
CANDIDATE_2, CANDIDATE_9 = (Arm(name="candidate", version=version, share=0.2) for version in (2, 9))


@pytest.mark.parametrize(
    ("arms", "previous"),
    [((STABLE_9,), 0), ((STABLE_9, CANDIDATE_2), 1), ((STABLE_1, CANDIDATE_9), 0), ((STABLE_1, CANDIDATE_2), 9)],
)
def test_a_plan_that_names_a_version_without_a_manifest_is_refused(
    store: Store, arms: tuple[Arm, ...], previous: int
) -> None:
    """B1: no replica could load it."""
    publish(store, 2)
    plan = RolloutPlan(revision=1, salt="s", arms=arms, previous=previous)
    with pytest.raises(NotFound, match="version 9 is not stored"):
        store.plans.write(plan, Decision(version=9, action="promoted", time_ms=1))
    assert (store.plans.read(), store.plans.decisions.since(0, 9)) == (None, [])


def test_a_plan_and_a_collection_at_the_same_time_leave_a_plan_that_can_be_taken(open_store: Open) -> None:
    """B1: of the two, the later one is refused."""
    writer = open_store()
    collector = open_store().collector
    stop = threading.Event()
    publish(writer, 60)

    def collect() -> None:
        while not stop.is_set():
            collector.collect(range(30, 61))

    thread = threading.Thread(target=collect)
    thread.start()
    revision = 0
    refused = 0
    while not refused:
        for version in range(1, 60):
            try:
                writer.plans.write(build_plan(revision + 1, version))
            except NotFound:
                refused += 1
            else:
                revision += 1
                assert writer.versions.manifest(version).version == version
    stop.set()
    thread.join()


def test_a_changed_plan_is_refused(store: Store, raw: Any, key: Key) -> None:
    publish(store, 1)
    store.plans.write(build_plan(1, 1))
    raw.hset(key("plan"), "body", raw.hget(key("plan"), "body").replace(b'"version":1', b'"version":2'))
    with pytest.raises(BadSignature):
        store.plans.read()


def test_a_signed_body_that_is_no_plan_is_refused(store: Store, raw: Any, key: Key) -> None:
    raw.hset(key("plan"), mapping={"body": b"{}", "signature": KEYS.sign(b"{}", key("plan"))})
    with pytest.raises(UnknownFormat):
        store.plans.read()


def test_of_two_controllers_one_wins_each_revision(open_store: Open) -> None:
    stores = [open_store(), open_store()]
    barrier = threading.Barrier(2)
    won: list[int] = []

    def race(who: int) -> None:
        for revision in range(1, 101):
            barrier.wait()
            try:
                stores[who].plans.write(build_plan(revision, reason=str(who)))
                won.append(revision)
            except PlanMoved:
                pass
            barrier.wait()

    threads = [threading.Thread(target=race, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == list(range(1, 101))


ARMS = [Arm(name="stable", version=version, share=0.5) for version in range(5)]


def test_events_that_were_judged_are_kept_beside_the_evidence_up_to_a_bound(store: Store, raw: Any, key: Key) -> None:
    store.plans.write_evidence(ARMS[0], ARMS[:3], max_judged=3)
    store.plans.write_evidence(ARMS[1], ARMS[3:], max_judged=3)
    assert store.plans.read_evidence(Arm) == ARMS[1]
    assert store.plans.read_judged(Arm) == ARMS[2:]
    raw.rpush(key("judged"), b"0" * 64 + b"{}")
    with pytest.raises(BadSignature, match="judged was not signed"):
        store.plans.read_judged(Arm)
    store.plans.forget_evidence()
    assert (store.plans.read_evidence(Arm), store.plans.read_judged(Arm)) == (None, [])
