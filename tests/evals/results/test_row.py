"""Goals of rows, and the comparison with peers."""

from dataclasses import replace

import pytest

from evals.results.row import Gaps, Peer, Row, Spread

PEERS = (Peer("fast", 300.0), Peer("slow", 100.0))


def row(*values: float | None, goal: str | None = None, peers: tuple[Peer, ...] = (), gaps: Gaps = Gaps()) -> Row:
    """Returns a row with a call for each value."""
    made = [Row.of("x", value, "ms", goal=goal, peers=peers, gaps=gaps) for value in values]
    return replace(made[0], calls=tuple(each.calls[0] for each in made))


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        ("<= 60", 60.0, True),
        ("<= 60", 60.1, False),
        (">= 600", 600.0, True),
        (">= 600", 599.0, False),
        ("<= 60", None, False),
        (None, 1.0, None),
        (None, None, False),
    ],
)
def test_a_goal_is_met_or_not(goal: str | None, value: float | None, met: bool | None) -> None:
    assert row(value, goal=goal).met is met


@pytest.mark.parametrize(
    ("values", "met"),
    [((60.0, 50.0, 55.0), True), ((60.0, 50.0, 60.1), False), ((50.0, None, 50.0), False)],
)
def test_a_goal_is_met_only_in_every_call(values: tuple[float | None, ...], met: bool) -> None:
    assert row(*values, goal="<= 60").met is met


@pytest.mark.parametrize(("value", "met"), [(540.0, True), (539.0, False), (None, False)])
def test_a_goal_may_be_a_multiple_of_the_best_peers(value: float | None, met: bool) -> None:
    goal = ">= 1.8x"
    assert str(goal) == ">= 1.8x"
    assert row(value, goal=goal, peers=PEERS).met is met


def test_a_goal_of_peers_is_not_judged_without_all_of_them() -> None:
    goal = ">= 1.8x"
    assert row(900.0, goal=goal).met is None
    assert row(900.0, goal=goal, peers=PEERS, gaps=Gaps(missing=("third",))).met is None
    assert row(900.0, goal=">= 1.8", peers=PEERS, gaps=Gaps(missing=("third",))).met is True


def test_a_goal_of_peers_is_not_judged_if_not_all_settings_of_a_peer_were_tried() -> None:
    goal = ">= 1.8x"
    assert Row.of("x", 900.0, "ms", goal=goal, peers=PEERS, gaps=Gaps(unfinished=("slow",))).met is None


def test_a_ratio_is_our_value_over_the_best_peers() -> None:
    assert row(900.0, 600.0, peers=PEERS).ratios == Spread(2.0, 2.5, 3.0)
    assert row(None, peers=PEERS).ratios is None
    assert row(900.0).ratios is None


def test_the_spread_is_over_the_calls_with_a_value() -> None:
    assert row(3.0, 1.0, 2.0).values == Spread(1.0, 2.0, 3.0)
    assert row(3.0, None).values == Spread(3.0, 3.0, 3.0)
    assert row(None).values is None
