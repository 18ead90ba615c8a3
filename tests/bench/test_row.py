"""Checks when a goal is met, and how a row compares."""

import pytest

from bench.row import Goal, Peer, Row


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal("<=", 60), 60.0, True),
        (Goal("<=", 60), 60.1, False),
        (Goal(">=", 600), 600.0, True),
        (Goal(">=", 600), 599.0, False),
        (Goal("<=", 60), None, False),
        (None, 1.0, None),
    ],
)
def test_a_goal_is_met_or_not(goal: Goal | None, value: float | None, met: bool | None) -> None:
    assert Row(name="x", value=value, unit="ms", goal=goal).met is met


@pytest.mark.parametrize(("value", "met"), [(540.0, True), (539.0, False), (None, False)])
def test_a_goal_may_be_a_multiple_of_the_peers(value: float | None, met: bool) -> None:
    goal = Goal(">=", 1.8, of_peer=True)
    assert str(goal) == ">= 1.8x"
    assert Row(name="x", value=value, unit="texts/s", goal=goal, peer=Peer("torch", 300.0)).met is met
    assert Row(name="x", value=value, unit="texts/s", goal=goal).met is None


def test_a_ratio_is_ours_over_the_peers() -> None:
    assert Row(name="x", value=900.0, unit="events/s", peer=Peer("torch", 300.0)).ratio == 3.0
    assert Row(name="x", value=None, unit="events/s", peer=Peer("torch", 300.0)).ratio is None
    assert Row(name="x", value=900.0, unit="events/s").ratio is None
