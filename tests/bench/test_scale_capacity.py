"""The simulated day: it has the given load and peak, delays are the delays of a queue, and limits are found."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.scale import DAY_S, Day, ServicePart, arrivals, delays_s, load_limits, max_load_factor

DAY = Day(events=1_000_000, labels=10_000, peak=3.0)


@given(st.floats(1.0, 20.0))
@settings(max_examples=5, deadline=None)
def test_a_day_has_the_given_load_and_peak(peak: float) -> None:
    events_S, labels_S = arrivals(Day(events=50e6, labels=1e6, peak=peak))
    assert len(events_S) == len(labels_S) == DAY_S
    assert events_S.sum() == pytest.approx(50e6, rel=0.01)
    assert labels_S.sum() == pytest.approx(1e6, rel=0.01)
    busiest = events_S.reshape(-1, 600).mean(axis=1).max()
    assert busiest == pytest.approx(peak * 50e6 / DAY_S, rel=0.05)


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=50),
    st.floats(0.01, 1.0),
    st.floats(0.0, 0.5),
    st.integers(1, 5),
)
def test_delays_equal_the_delays_of_a_simulated_queue(
    events: list[int], event_s: float, share: float, servers: int
) -> None:
    part = ServicePart(name="one", event_s=event_s, share=share, servers=servers)
    found = delays_s(part, np.array(events), np.zeros(len(events), np.int64))
    waiting_s = 0.0
    for num, delay_s in zip(events, found, strict=True):
        waiting_s = max(0.0, waiting_s + num * event_s + share - servers)
        assert delay_s == pytest.approx(waiting_s / servers, abs=1e-9)


def test_the_servers_capacity_in_the_busiest_hour_limits_a_part() -> None:
    busiest_per_s = DAY.peak * DAY.events / DAY_S
    part = ServicePart(name="one", event_s=1 / busiest_per_s, servers=2)
    assert max_load_factor(part, DAY) == pytest.approx(2.0, rel=0.05)


def test_more_servers_never_take_less() -> None:
    limits = [max_load_factor(ServicePart(name="one", event_s=0.05, servers=servers), DAY) for servers in (1, 2, 4)]
    assert limits == sorted(limits)
    assert limits[2] == pytest.approx(4 * limits[0], rel=0.1)


def test_the_first_to_fall_behind_comes_first() -> None:
    slow, fast, idle = (
        ServicePart(name="slow", event_s=0.1),
        ServicePart(name="fast", label_s=0.001),
        ServicePart(name="idle", share=0.5),
    )
    found = load_limits([idle, fast, slow], DAY)
    assert list(found) == ["slow", "fast", "idle"]
    assert found["slow"] < 1 < found["fast"]
    assert math.isinf(found["idle"])


def test_a_part_that_is_busy_without_a_load_can_take_none() -> None:
    assert max_load_factor(ServicePart(name="one", share=1.1), DAY) < 0.01
