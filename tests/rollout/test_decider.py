"""Decisions from the evidence, carried out in a real store."""

import pytest

from rollout.config import RolloutConfig
from rollout.decider import Decider
from rollout.plans import begin, follow
from tests.stores import lease_of, manifest_of
from wire.config import TrustConfig
from wire.records import CANDIDATE, STABLE, Answer, Feedback
from wire.store import Store


@pytest.fixture
def decider(store: Store) -> Decider:
    config = RolloutConfig(min_labels=20)
    return Decider(store, config=config, trust=TrustConfig(), refusal=lambda label: "", now_ms=lambda: 5)


@pytest.fixture
def published(store: Store) -> Store:
    """Publishes ten versions; the first is stable, the last is the candidate."""
    lease = lease_of(store)
    for version in range(1, 11):
        store.versions.publish(manifest_of(store, version, epoch=lease.epoch), lease)
    plan = begin(1, salt="s", now_ms=1).plan
    store.plans.write(plan)
    store.plans.write(follow(plan, 10, share=0.2, now_ms=2).plan)
    return store


def judge(decider: Decider, *, candidates: range, right: bool = True) -> None:
    """Adds 100 labelled answers of each arm, those of the candidate from these versions in turn, and decides."""
    for number in range(200):
        arm = CANDIDATE if number % 2 else STABLE
        version = candidates[number // 2 % len(candidates)] if number % 2 else 1
        answer = Answer(
            event_id=str(number),
            text="",
            label="yes" if (arm == CANDIDATE) == right else "no",
            score=1.0,
            weights_version=version,
            arm=arm,
            precision="int8",
            rollout_revision=2,
        )
        decider.add(answer)
        decider.add(Feedback(event_id=str(number), label="yes"))
    decider.decide()


@pytest.mark.parametrize(("collected", "promoted"), [((), 8), ((8,), 7), ((5, 7, 8), 6)])
def test_the_newest_stored_version_that_was_judged_is_promoted(
    published: Store, decider: Decider, collected: tuple[int, ...], promoted: int
) -> None:
    """B1: versions that a plan or a label still needed had been collected."""
    decider.decide()
    published.collector.collect({*range(1, 11)} - {*collected})
    judge(decider, candidates=range(5, 9))
    plan = published.plans.read()
    assert plan is not None
    assert (plan.stable, plan.candidate, plan.previous) == (promoted, 10, 1)
    assert not decider.alarms.now()


def test_where_nothing_that_was_judged_is_stored_nothing_is_promoted_and_that_is_said(
    published: Store, decider: Decider
) -> None:
    """B1: earlier and later versions are stored, but the labels belong to neither."""
    decider.decide()
    published.collector.collect({1, 2, 3, 9, 10})
    before = published.plans.read()
    judge(decider, candidates=range(5, 9))
    assert published.plans.read() == before
    assert "no version that has these labels is stored" in " ".join(decider.alarms.now())


def test_a_withdrawal_needs_no_candidate_in_the_store(published: Store, decider: Decider) -> None:
    decider.decide()
    published.collector.collect({1, 10})
    judge(decider, candidates=range(5, 9), right=False)
    plan = published.plans.read()
    assert plan is not None
    assert (plan.stable, plan.candidate, published.versions.current()) == (1, 0, 1)
