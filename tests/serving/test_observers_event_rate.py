"""The rate of events, by the times of their batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.observers import RATE_WINDOW_S, EventRate


@given(st.floats(1.0, 1_000.0), st.integers(1, 50))
def test_a_steady_stream_is_found_whatever_its_batches_are(per_s: float, num_in_batch: int) -> None:
    rate = EventRate()
    every_s = num_in_batch / per_s
    for number in range(int(10 * RATE_WINDOW_S / every_s) + 1):
        rate.add(num_in_batch, number * every_s)
    assert per_s <= 1.001 * rate.per_s <= per_s + 1.001 * num_in_batch / RATE_WINDOW_S + 0.002 * per_s


def test_events_before_a_long_pause_do_not_count() -> None:
    rate = EventRate()
    rate.add(1_000, 0.0)
    assert rate.per_s == pytest.approx(1_000 / RATE_WINDOW_S)
    rate.add(0, 10 * RATE_WINDOW_S)
    assert rate.per_s < 0.01


def test_batches_at_one_moment_add_up() -> None:
    rate = EventRate()
    rate.add(3, 7.0)
    rate.add(2, 7.0)
    assert rate.per_s == pytest.approx(5 / RATE_WINDOW_S)
