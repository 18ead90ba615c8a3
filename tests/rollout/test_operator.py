"""What an operator may do, with a controller and without one: promote, roll back, pin."""

import time

import pytest

from rollout.operator import Operator
from rollout.plans import NotPossible
from tests.rollout.world import World, leading
from tests.stores import plant_plan
from wire.bus import Bus
from wire.config import StoreConfig
from wire.errors import NotFound
from wire.records import Arm, RolloutPlan

pytestmark = pytest.mark.live


def test_an_operator_can_leave_a_missing_version_without_a_controller(world: World, store_config: StoreConfig) -> None:
    """B1: versions that a plan or a label still needed had been collected."""
    first = world.publish()
    plant_plan(store_config, RolloutPlan(revision=7, salt="s", arms=(Arm(name="stable", version=99, share=1.0),)))
    plan = Operator(world.store, name="test").promote(first, now_ms=1)
    assert (plan.stable, plan.previous) == (first, 0)


def test_rollback_is_one_command_and_works_without_a_controller(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish_stable()
        world.publish_candidate()
    operator = Operator(world.store, name="test")
    operator.promote(None, now_ms=1)
    plan = operator.rollback(now_ms=2)
    assert (plan.stable, plan.candidate, world.store.versions.current()) == (first, 0, first)
    assert world.actions()[-1] == (first, "rolled_back")


def test_nothing_changes_while_pinned(world: World, bus: Bus) -> None:
    operator = Operator(world.store, name="test")
    with leading(world.store, bus):
        first = world.publish_stable()
        world.publish_candidate()
        pinned = operator.pin(first, now_ms=1)
        third = world.publish()
        world.answer(100, right={"stable": True, "candidate": True})
        time.sleep(0.5)  # nothing tells that nothing happens
        assert world.store.plans.read() == pinned
        operator.unpin(now_ms=2)
        world.until(lambda plan: plan.candidate == third)


def test_an_operator_is_told_what_is_not_possible(world: World) -> None:
    operator = Operator(world.store, name="test")
    assert operator.status().plan is None
    with pytest.raises(NotPossible, match="no version was published"):
        operator.rollback(now_ms=1)
    world.publish()
    with pytest.raises(NotPossible, match="no version was published"):
        operator.pin(7, now_ms=1)


def test_an_unknown_version_cannot_be_pinned_or_promoted(world: World, bus: Bus) -> None:
    operator = Operator(world.store, name="test")
    with leading(world.store, bus):
        world.publish_stable()
    with pytest.raises(NotFound):
        operator.pin(7, now_ms=1)
    with pytest.raises(NotFound):
        operator.promote(7, now_ms=1)
    with pytest.raises(NotPossible, match="no candidate"):
        operator.promote(None, now_ms=1)
