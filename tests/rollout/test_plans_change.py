"""A change of the plan against others who change it at the same time, in a real store."""

from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from rollout.plans import MAX_TRIES, PlanChange, begin, change
from tests.stores import publish, take_lease
from wire.errors import PlanMoved
from wire.records import RolloutPlan
from wire.store import Store


@pytest.fixture
def store_with_plan(store: Store) -> Store:
    publish(store, take_lease(store), 1)
    assert change(store.plans, lambda _: begin(1, salt="s", now_ms=1))
    return store


def with_reason(plan: RolloutPlan | None, reason: str) -> PlanChange:
    assert plan is not None
    return PlanChange(msgspec.structs.replace(plan, revision=plan.revision + 1, reason=reason))


def test_what_the_step_returns_is_written(store_with_plan: Store) -> None:
    changed = change(store_with_plan.plans, partial(with_reason, reason="mine"))
    assert changed is not None and changed == store_with_plan.plans.read()
    assert (changed.reason, changed.revision) == ("mine", 2)


def test_a_step_without_a_change_writes_nothing(store_with_plan: Store) -> None:
    before = store_with_plan.plans.read()
    assert change(store_with_plan.plans, lambda _: None) is None
    assert store_with_plan.plans.read() == before


def rivalled(store: Store, *, times: int) -> Callable[[RolloutPlan | None], PlanChange]:
    """Returns a step before whose write somebody else writes, so many times."""
    seen: list[str] = []

    def step(plan: RolloutPlan | None) -> PlanChange:
        assert plan is not None
        seen.append(plan.reason)
        if len(seen) <= times:
            store.plans.write(with_reason(plan, f"rival {len(seen)}").plan)
        return with_reason(plan, f"mine, after {seen[-1]}")

    return step


def test_a_step_is_computed_again_for_the_plan_of_whoever_was_faster(store_with_plan: Store) -> None:
    changed = change(store_with_plan.plans, rivalled(store_with_plan, times=2))
    assert changed is not None and changed == store_with_plan.plans.read()
    assert (changed.reason, changed.revision) == ("mine, after rival 2", 4)


def test_whoever_always_loses_gives_up(store_with_plan: Store) -> None:
    with pytest.raises(PlanMoved, match=f"{MAX_TRIES} times in a row"):
        change(store_with_plan.plans, rivalled(store_with_plan, times=MAX_TRIES))
    plan = store_with_plan.plans.read()
    assert plan is not None and plan.reason == f"rival {MAX_TRIES}"
