"""Decisions are kept by time, apart from publications, and are bounded in number."""

import pytest

from wire.records import Decision, RolloutPlan
from wire.store import Store
from wire.store import plans as module
from wire.store.plans import HOUR_MS, MAX_DECISIONS, RETENTION_MS, Slot

START_MS = 500 * HOUR_MS


def decided(store: Store, *decisions: Decision) -> None:
    plan = store.plans.read()
    first = plan.revision + 1 if plan else 1
    for revision, decision in enumerate(decisions, first):
        store.plans.write(RolloutPlan(revision=revision, salt="s", arms=()), decision)


def promoted(version: int, *, rule: str = "operator", time_ms: int = START_MS, revision: int = 0) -> Decision:
    return Decision(version=version, action="promoted", rule=rule, time_ms=time_ms, revision=revision)


def versions(store: Store, *, since_ms: int = 0, limit: int = 100) -> list[int]:
    return [decision.version for decision in store.plans.decisions.since(since_ms, limit)]


def test_the_newest_come_first_and_none_is_older_than_asked_for(store: Store) -> None:
    decided(store, *(promoted(version, time_ms=START_MS + version) for version in range(1, 6)))
    assert versions(store) == [5, 4, 3, 2, 1]
    assert versions(store, limit=2) == [5, 4]
    assert versions(store, since_ms=START_MS + 4) == [5, 4]
    assert versions(store, since_ms=START_MS + 9) == []


@pytest.mark.parametrize("rule", ["A", "B"])
def test_promotions_of_an_hour_by_one_of_the_quick_rules_are_one_decision(store: Store, rule: str) -> None:
    """A learner that publishes five versions a second would fill the memory within days."""
    decided(store, *(promoted(version, rule=rule, revision=version) for version in range(1, 8)))
    decided(store, promoted(8, time_ms=START_MS), promoted(9, rule=rule, time_ms=START_MS + HOUR_MS, revision=9))
    first, *others = store.plans.decisions.since(0, 9)
    assert (first.version, first.count) == (9, 1)
    assert {(decision.version, decision.count) for decision in others} == {(8, 1), (7, 7)}


def test_a_decision_is_dropped_after_ninety_days(store: Store) -> None:
    decided(store, promoted(1), promoted(2, time_ms=START_MS + RETENTION_MS // 2))
    assert versions(store) == [2, 1]
    decided(store, promoted(3, time_ms=START_MS + RETENTION_MS + 1))
    assert versions(store) == [3, 2]


def test_there_are_at_most_so_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_DECISIONS < 100_000
    monkeypatch.setattr(module, "MAX_DECISIONS", 10)
    decided(store, *(promoted(version, time_ms=START_MS + version) for version in range(1, 26)))
    assert versions(store) == list(range(25, 15, -1))


def test_a_shared_slot_is_no_millisecond() -> None:
    for rule in ("A", "B", "C"):
        slot = Slot.for_decision(promoted(1, rule=rule, time_ms=START_MS + 17))
        assert slot.is_shared and slot.score != int(slot.score) and slot.score // HOUR_MS == 500
    assert Slot.for_decision(promoted(1)) == Slot(float(START_MS), False)
    assert not Slot.for_decision(Decision(version=1, action="withdrawn", rule="A", time_ms=5)).is_shared
