"""The controller against a real Redis and a real broker: publish, follow, judge, promote, withdraw."""

import statistics
import time
from dataclasses import replace

import msgspec
import pytest

from rollout.comparison import PairCount
from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.judge import Judge
from rollout.operator import Operator
from tests.rollout.world import CONFIG, DEADLINE_S, World, leading
from tests.waiting import eventually
from wire.bus import Bus
from wire.records import Answer, Feedback, NameChanges, ReplicaReport, VersionHealth
from wire.timestamps import now_ms

pytestmark = pytest.mark.live


def no_judge() -> Judge:
    raise AssertionError("the test follows by itself")


def test_first_version_is_stable_then_one_is_judged_and_the_newest_arm_follows(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish()
        assert world.until(lambda plan: plan.stable == first).arms[0].share == 1.0
        second = world.publish_candidate()
        third = world.publish()
        plan = world.until(lambda plan: plan.newest == third)
    assert [(arm.version, arm.share) for arm in plan.arms] == [
        (first, pytest.approx(1.0 - CONFIG.ramp[0] - CONFIG.newest_share)),
        (second, CONFIG.ramp[0]),
        (third, CONFIG.newest_share),
    ]


ALIKE = NameChanges(reference=1, texts=2_000, between_old=1, to_new=3)


def test_a_version_that_only_adds_is_stable_at_once_without_a_label(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        world.publish_stable()
        world.publish_candidate()
        added = world.publish(changes=ALIKE)
        plan = world.until(lambda plan: plan.stable == added)
    assert (plan.versions, plan.previous, plan.reference) == ((added,), 1, 1)
    (decision,) = [each for each in world.store.plans.decisions.since(0, 9) if each.version == added]
    assert (decision.rule, decision.action) == ("A", "promoted")
    assert 0.0 < decision.numbers["changed"] <= 0.005


HELD = NameChanges(reference=1, held_wins=30, held_ties=560, held_losses=5)
"""A version with another encoder than the reference, which is better on the holdout by four points."""


def test_a_new_encoder_is_stable_at_once_without_a_label_and_the_versions_after_it_too(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        world.publish_stable()
        world.publish_candidate()
        newer = world.publish(changes=HELD)
        plan = world.until(lambda plan: plan.stable == newer)
        assert (plan.versions, plan.previous, plan.reference) == ((newer,), 1, newer)
        added = world.publish(changes=msgspec.structs.replace(ALIKE, reference=newer))
        plan = world.until(lambda plan: plan.stable == added)
        assert plan.reference == newer
        again = world.publish(changes=msgspec.structs.replace(HELD, reference=newer))
        assert world.until(lambda plan: plan.stable == again).reference == again
    decisions = [each for each in world.store.plans.decisions.since(0, 9) if each.version in (newer, added, again)]
    assert {each.action for each in decisions} == {"promoted"}
    assert "on the holdout, 30 won, 560 tied, 5 lost" in decisions[0].reason


def test_an_objection_of_the_judge_keeps_a_version_from_being_stable_at_once(world: World) -> None:
    controller = Controller(world.store, no_judge, config=CONFIG, holder="one", now_ms=now_ms)
    world.publish()
    controller.follow_current()
    for objection, stable in (("the newest versions are worse", 1), ("", 3)):
        world.publish(changes=ALIKE)
        controller.follow_current(objection)
        plan = world.store.plans.read()
        assert plan is not None and plan.stable == stable


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        pytest.param(msgspec.structs.replace(ALIKE, between_old=40), CONFIG, id="old names change"),
        pytest.param(msgspec.structs.replace(ALIKE, reference=7), CONFIG, id="another reference"),
        pytest.param(ALIKE, replace(CONFIG, approval="by_hand"), id="approval by hand"),
        pytest.param(
            msgspec.structs.replace(HELD, held_losses=60), CONFIG, id="a new encoder that is worse on the holdout"
        ),
        pytest.param(msgspec.structs.replace(HELD, reference=7), CONFIG, id="a new encoder beside another reference"),
        pytest.param(HELD, replace(CONFIG, approval="by_hand"), id="a new encoder, approval by hand"),
    ],
)
def test_any_other_version_is_not_stable_at_once(
    world: World, bus: Bus, changes: NameChanges, config: RolloutConfig
) -> None:
    with leading(world.store, bus, config=config):
        world.publish_stable()
        second = world.publish(changes=changes)
        plan = world.until(lambda plan: plan.newest == second)
    assert (plan.stable, plan.candidate) == (1, second)


def test_versions_that_know_somebody_erased_are_not_kept_for_being_new(world: World, bus: Bus) -> None:
    with leading(world.store, bus, config=replace(CONFIG, collect_interval_s=0.05)):
        first = world.publish_stable()
        world.publish()
        third = world.publish(erased=1)
        world.until(lambda plan: plan.newest == third)
        Operator(world.store, name="test").promote(third, now_ms=now_ms())
        eventually(lambda: world.store.versions.stored() == [first, third], within_s=DEADLINE_S)
        fourth = world.publish(erased=1)
        world.until(lambda plan: plan.newest == fourth)
    assert world.store.versions.stored() == [first, third, fourth]


@pytest.mark.alone
def test_the_newest_arm_follows_within_a_tenth_of_a_second(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        world.publish_stable()
        waits = []
        for _ in range(5):
            start = time.monotonic()
            world.publish()
            world.until(lambda plan: plan.newest == world.store.versions.current())
            waits.append(time.monotonic() - start)
    assert statistics.median(waits) < 0.1, waits


def test_a_better_candidate_is_promoted(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish_stable()
        second = world.publish_candidate()
        plan = world.answer_until(lambda plan: plan.stable == second, right={"stable": False, "candidate": True})
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


def test_a_candidate_whose_answers_are_slow_is_withdrawn(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish_stable()
        second = world.publish_candidate()
        health = (VersionHealth(version=first, timed=0), VersionHealth(version=second, timed=60, slow=55))
        world.store.reports.write_replica(
            ReplicaReport(replica="one", revision=2, versions=(first, second), time_ms=now_ms(), health=health)
        )
        plan = world.until(lambda plan: not plan.candidate)
    assert (plan.stable, world.store.versions.current()) == (first, first)
    assert world.actions()[-1] == (second, "withdrawn")


def test_an_equal_candidate_is_promoted_after_its_ramp(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        world.publish_stable()
        second = world.publish_candidate()
        world.answer_until(lambda plan: plan.stable == second, right={"stable": True, "candidate": True})
    assert world.actions("ramped", "promoted") == [(1, "promoted"), (second, "ramped"), (second, "promoted")]


def test_a_controller_that_starts_amid_a_ramp_goes_on_with_what_was_known(world: World, bus: Bus) -> None:
    alike = {"stable": True, "candidate": True}
    config = replace(CONFIG, approval="by_hand")  # so that nothing ends the ramp before both have counted
    with leading(world.store, bus, config=config):
        world.publish_stable()
        second = world.publish_candidate()
        world.answer_until(lambda plan: plan.arms[1].share == CONFIG.ramp[-1], right=alike)
        eventually(lambda: world.saved().offsets == bus.end_offsets(Answer, Feedback), within_s=DEADLINE_S)
        known = PairCount(world.saved().candidate).labels.labels
    assert known >= 50
    world.answer(20, right=alike)
    with leading(world.store, bus, holder="two", config=config):
        eventually(lambda: world.evidence_labels() == known + 20, within_s=DEADLINE_S)
        Operator(world.store, name="test").approve(second, now_ms=now_ms())
        world.answer_until(lambda plan: plan.stable == second, right=alike)
    assert world.actions("ramped") == [(second, "ramped")]


def test_labels_that_come_sixty_versions_late_promote_the_candidate(world: World, bus: Bus) -> None:
    """B1: compressed in time: a version every 50 ms, ten collections a second, labels 3 s after their answers."""
    with leading(world.store, bus, config=replace(CONFIG, collect_interval_s=0.1, keep_versions=2)):
        world.publish_stable()
        stable: list[int] = []
        while len(dict.fromkeys(stable)) < 3:
            world.publish()
            world.answer(4, right={"stable": False, "candidate": True}, labels_after_s=3.0)
            world.label_what_is_due()
            plan = world.store.plans.read()
            assert plan is not None
            assert set(plan.needed) <= set(world.store.versions.stored())
            stable.append(plan.stable)
            time.sleep(0.05)
