"""How many replicas are wanted, as a function of lag and load, and as Serve asks for it."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scaling import BUSY_SHARE, LagPolicy, replicas_wanted

LAGS = st.floats(0, 1e9)
BUSY = st.floats(0, 64)
CURRENT = st.integers(1, 64)


@pytest.mark.parametrize(
    ("lag", "busy", "wanted"),
    [(0, 0.0, 1), (0, 1.9, 4), (400, 0.0, 1), (401, 0.0, 5), (799, 4.0, 8), (1_000_000, 4.0, 8), (0, 4.0, 4)],
)
def test_four_replicas_with_room_for_100_events_each(lag: int, busy: float, wanted: int) -> None:
    assert replicas_wanted(lag, busy, current=4, lag_per_replica=100) == wanted


@given(LAGS, LAGS, BUSY, CURRENT, st.integers(1, 10_000))
def test_more_lag_never_wants_fewer(lag: float, more: float, busy: float, current: int, per_replica: int) -> None:
    some = replicas_wanted(lag, busy, current=current, lag_per_replica=per_replica)
    assert 1 <= some <= replicas_wanted(lag + more, busy, current=current, lag_per_replica=per_replica) <= 2 * current


@given(BUSY, CURRENT)
def test_who_stays_has_time_for_what_all_had(busy: float, current: int) -> None:
    wanted = replicas_wanted(0, busy, current=current, lag_per_replica=1)
    assert wanted <= current
    assert wanted == current or busy <= wanted * BUSY_SHARE * (1 + 1e-9)


def context(current: int, **measured: dict[str, float]) -> Any:
    """What the policy reads of Serve's context."""
    return SimpleNamespace(current_num_replicas=current, target_num_replicas=3, aggregated_metrics=measured or None)


def test_the_policy_adds_up_what_the_replicas_say() -> None:
    policy = LagPolicy(lag_per_replica=100)
    assert policy(context(2, lag={"a": 150.0, "b": 90.0}, busy={"a": 1.0, "b": 1.0})) == (3, {})
    assert policy(context(2, lag={"a": 0.0, "b": 0.0}, busy={"a": 0.1, "b": 0.1})) == (1, {})


def test_nothing_changes_before_every_replica_has_said_something() -> None:
    policy = LagPolicy(lag_per_replica=100)
    for silent in (context(2), context(2, lag={"a": 0.0}, busy={"a": 0.0}), context(0)):
        assert policy(silent) == (3, {})
