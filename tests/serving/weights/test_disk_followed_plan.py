"""A replica that starts follows no plan that is older than what replicas of its machine have followed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.engine import Engine
from serving.errors import VersionRefused
from serving.weights.disk import FollowedPlan
from tests.serving.versions import TinyPublisher
from tests.serving.weights.swaps import make_swap, served
from tests.serving.weights.test_swap_refusals import put_back, stored
from wire.records import Arm, RolloutPlan
from wire.store import Store


def plan(revision: int, *, salt: str = "s", time_ms: int = 0) -> RolloutPlan:
    arms = (Arm(name="stable", version=revision, share=1.0),)
    return RolloutPlan(revision=revision, salt=salt, time_ms=time_ms or 100 * revision, arms=arms)


def test_a_replica_that_starts_refuses_a_plan_from_before(tmp_path: Path) -> None:
    """B23: whoever may write to the store puts an old signed plan back and waits for a restart."""
    before = FollowedPlan(str(tmp_path))
    before.check(plan(3))
    before.note(plan(3))
    started = FollowedPlan(str(tmp_path))
    with pytest.raises(VersionRefused, match="revision 2, after 3"):
        started.check(plan(2))
    for accepted in (plan(3), plan(4), plan(1, salt="of a new store"), plan(2, time_ms=900)):
        started.check(accepted)
    FollowedPlan(str(tmp_path), "fraud").check(plan(1))


def test_a_replica_that_is_behind_takes_nothing_back(tmp_path: Path) -> None:
    ahead, behind = FollowedPlan(str(tmp_path)), FollowedPlan(str(tmp_path))
    ahead.note(plan(3))
    behind.note(plan(2))
    with pytest.raises(VersionRefused):
        FollowedPlan(str(tmp_path)).check(plan(2))


def test_what_cannot_be_read_or_written_stops_no_replica(tmp_path: Path) -> None:
    (tmp_path / "plan-.json").write_bytes(bytes(40))
    FollowedPlan(str(tmp_path)).check(plan(1))
    (tmp_path / "file").write_bytes(b"")
    followed = FollowedPlan(str(tmp_path / "file"))
    followed.note(plan(1))
    assert followed.last == plan(1)
    FollowedPlan().note(plan(1))


def test_the_swap_of_a_replica_that_starts_refuses_it(
    learner: TinyPublisher, store: Store, engine: Engine, tmp_path: Path, raw: Any, key: Callable[..., str]
) -> None:
    learner.publish(1)
    learner.plan(1)
    old = stored(raw, key("plan"))
    learner.publish(2)
    learner.plan(2)
    make_swap(store, engine, followed=FollowedPlan(str(tmp_path))).follow_plan()
    put_back(raw, key("plan"), old)
    started = make_swap(store, engine, followed=FollowedPlan(str(tmp_path)))
    started.follow_plan()
    assert started.refused == {"old_plan": 1} and served(engine) == (2, 2)
