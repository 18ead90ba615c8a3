"""Tests the present traffic of replicas, computed from their counts."""

import pytest

from services.page.rates import WINDOW_MS, ReplicaRates, ReplicaTraffic, quantile, sum_traffic
from tests.services.page.states import CLASSES, replica_report


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rates = ReplicaRates()
    assert rates.add([replica_report(answers=500)])["r1"].per_s == 0.0
    for second in range(1, 40):
        found = rates.add([replica_report(time_ms=1_000 * (second + 1), answers=500 + 20 * second)])["r1"]
        assert found.per_s == pytest.approx(20.0)
    assert sum(found.latency_counts) == 20 * WINDOW_MS / 1_000
    assert found.latency_ms(0.5) == pytest.approx(7.5)


def test_a_report_that_is_read_twice_counts_once() -> None:
    rates = ReplicaRates()
    for _ in range(3):
        found = rates.add([replica_report(answers=7)])
    assert found["r1"] == ReplicaTraffic()


def test_a_replica_that_is_gone_is_forgotten() -> None:
    rates = ReplicaRates()
    rates.add([replica_report("a"), replica_report("b")])
    assert rates.add([replica_report("b")]).keys() == {"b"}
    assert rates.add([replica_report("a", time_ms=9_000, answers=9)])["a"].per_s == 0.0


def test_replicas_are_added_up() -> None:
    counts = (*[0] * (CLASSES - 1), 4)
    both = sum_traffic([ReplicaTraffic(2.0, counts), ReplicaTraffic(3.0, counts), ReplicaTraffic()])
    assert (both.per_s, sum(both.latency_counts)) == (5.0, 8)
    assert sum_traffic([]).latency_ms(0.5) is None


def test_a_quantile_is_linear_in_its_class() -> None:
    assert quantile([10, 10, 0], [100, 200], 0.25) == 50.0
    assert quantile([10, 10, 0], [100, 200], 0.75) == 150.0
    assert quantile([0, 0, 5], [100, 200], 0.5) == 200.0
