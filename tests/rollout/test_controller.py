"""The controller against a real Redis and a real broker: publish, follow, judge, promote, withdraw."""

import time
from dataclasses import replace

import pytest

from rollout.operator import Operator
from tests.rollout.world import CONFIG, DEADLINE_S, World, leading
from tests.waiting import eventually
from wire.bus import Bus
from wire.clock import now_ms

pytestmark = pytest.mark.live


def test_first_version_is_stable_and_the_next_ones_are_candidates(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish()
        assert world.until(lambda plan: plan.stable == first).arms[0].share == 1.0
        world.publish()
        third = world.publish()
        plan = world.until(lambda plan: plan.candidate == third)
        assert (plan.stable, plan.arms[1].share) == (first, CONFIG.candidate_share)


def test_versions_that_know_somebody_erased_are_not_kept_for_being_new(world: World, bus: Bus) -> None:
    with leading(world.store, bus, config=replace(CONFIG, collect_interval_s=0.05)):
        first = world.publish_stable()
        world.publish()
        third = world.publish_candidate(erased=1)
        Operator(world.store, name="test").promote(third, now_ms=now_ms())
        eventually(lambda: world.store.versions.stored() == [first, third], within_s=DEADLINE_S)
        fourth = world.publish_candidate(erased=1)
    assert world.store.versions.stored() == [first, third, fourth]


def test_a_candidate_follows_within_a_tenth_of_a_second(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        world.publish_stable()
        waits = []
        for _ in range(5):
            start = time.monotonic()
            world.publish_candidate()
            waits.append(time.monotonic() - start)
    assert min(waits) < 0.1, waits


def test_a_good_candidate_is_promoted(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish_stable()
        second = world.publish_candidate()
        plan = world.answer_until(lambda plan: plan.stable == second, right={"stable": True, "candidate": True})
    assert (plan.candidate, plan.previous) == (0, first)
    assert world.actions() == [(first, "promoted"), (second, "promoted")]


def test_a_bad_candidate_is_withdrawn_and_the_learner_set_back(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish_stable()
        second = world.publish_candidate()
        plan = world.answer_until(lambda plan: not plan.candidate, right={"stable": True, "candidate": False})
        assert plan.stable == first
        assert world.store.versions.current() == first
        third = world.publish()
        assert world.until(lambda plan: plan.candidate == third).stable == first
    assert world.actions() == [(first, "promoted"), (second, "withdrawn")]


def test_labels_that_come_sixty_versions_late_promote_what_is_stored(world: World, bus: Bus) -> None:
    """B1: compressed in time: a version every 50 ms, ten collections a second, labels 3 s after their answers."""
    with leading(world.store, bus, config=replace(CONFIG, collect_interval_s=0.1, keep_versions=2)):
        world.publish_stable()
        stable: list[int] = []
        while len(dict.fromkeys(stable)) < 3:
            version = world.publish_candidate()
            world.answer(4, right={"stable": False, "candidate": True}, labels_after_s=3.0)
            world.label_what_is_due()
            plan = world.store.plans.read()
            assert plan is not None
            assert {*plan.versions, plan.previous} - {0} <= set(world.store.versions.stored())
            stable.append(plan.stable)
            time.sleep(0.05)
    assert world.store.reports.controller() is not None
    assert max(stable) < version - 20, "what was promoted is as old as its labels"
