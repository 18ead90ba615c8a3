"""What an operator may do, with a controller and without one: promote, roll back, pin."""

import time

import pytest

from rollout.operator import Operator
from rollout.plans import NotPossible
from tests.rollout.world import CONFIG, World, leading
from tests.stores import plant_plan
from wire.bus import Bus
from wire.config import StoreConfig
from wire.errors import NotFound
from wire.records import Arm, RolloutPlan
from wire.timestamps import now_ms

pytestmark = pytest.mark.live


def test_an_operator_can_leave_a_missing_version_without_a_controller(world: World, store_config: StoreConfig) -> None:
    """B1: versions that a plan or a label still needed had been collected."""
    first = world.publish()
    plant_plan(store_config, RolloutPlan(revision=7, salt="s", arms=(Arm(name="stable", version=99, share=1.0),)))
    plan = Operator(world.store, name="test").promote(first, now_ms=now_ms())
    assert (plan.stable, plan.previous) == (first, 0)


def test_rollback_is_one_command_and_works_without_a_controller(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish_stable()
        world.publish_candidate()
    operator = Operator(world.store, name="test")
    operator.promote(None, now_ms=now_ms())
    plan = operator.rollback(now_ms=now_ms())
    assert (plan.stable, plan.newest, plan.candidate, world.store.versions.current()) == (first, 0, 0, first)
    assert world.actions()[-1] == (first, "rolled_back")


def test_nothing_changes_while_pinned(world: World, bus: Bus) -> None:
    operator = Operator(world.store, name="test")
    with leading(world.store, bus):
        first = world.publish_stable()
        world.publish_candidate()
        pinned = operator.pin(first, now_ms=now_ms())
        third = world.publish()
        world.answer(100, right={"stable": True})
        time.sleep(0.5)  # nothing tells that nothing happens
        assert world.store.plans.read() == pinned
        operator.unpin(now_ms=now_ms())
        world.until(lambda plan: plan.candidate == third)


def test_while_paused_the_newest_arm_follows_and_nothing_is_promoted(world: World, bus: Bus) -> None:
    operator = Operator(world.store, name="test", config=CONFIG)
    with leading(world.store, bus):
        first = world.publish_stable()
        second = world.publish_candidate()
        operator.pause(now_ms=now_ms())
        third = world.publish()
        world.until(lambda plan: plan.newest == third)
        while world.evidence_labels() < 100:
            world.answer(50, right={"stable": False, "candidate": True})
        plan = world.store.plans.read()
        assert plan is not None and (plan.stable, plan.candidate) == (first, second)
        operator.resume(now_ms=now_ms())
        world.until(lambda plan: plan.stable == second)
    rules = {(decision.action, decision.rule) for decision in operator.history(since_ms=0, entries=9)}
    assert {("promoted", "B"), ("resumed", "operator"), ("paused", "operator")} <= rules


def test_an_operator_sees_what_is_in_a_version(world: World) -> None:
    version = world.publish()
    assert Operator(world.store, name="test").manifest(version).version == version


def test_an_operator_is_told_what_is_not_possible(world: World) -> None:
    operator = Operator(world.store, name="test")
    assert operator.status().plan is None
    with pytest.raises(NotPossible, match="no version was published"):
        operator.rollback(now_ms=now_ms())
    world.publish()
    with pytest.raises(NotPossible, match="no version was published"):
        operator.pin(7, now_ms=now_ms())


def test_an_unknown_version_cannot_be_pinned_or_promoted(world: World, bus: Bus) -> None:
    operator = Operator(world.store, name="test")
    with leading(world.store, bus):
        world.publish_stable()
    with pytest.raises(NotFound):
        operator.pin(7, now_ms=now_ms())
    with pytest.raises(NotFound):
        operator.promote(7, now_ms=now_ms())
    with pytest.raises(NotPossible, match="no candidate"):
        operator.promote(None, now_ms=now_ms())
