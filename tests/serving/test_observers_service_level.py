"""Checks what is measured of a replica, and how it is held against its promises."""

import pytest

from serving.config import Promises
from serving.observers import LEVEL_WINDOW_S, MAX_BATCHES, ServiceLevel
from serving.queue import Batch, Item
from wire.records import LATENCY_BOUNDS_MS, Event, Promise

ALL: Promises = {"p99_ms": 150, "answers_per_s": 30, "tokens_per_s": 100, "accuracy": 0.88, "model_mb": 11.3}


def batch(*arrived_s: float, num_tokens: int = 4) -> Batch[Item]:
    item = Item(
        event=Event(id="1", text="x", source="s", time_ms=1), token_ids=[0] * num_tokens, done=lambda outcome: None
    )
    return Batch([item] * len(arrived_s), arrived_s[0], list(arrived_s))


def add(level: ServiceLevel, batch: Batch[Item], *, began_s: float, ended_s: float) -> None:
    level.batch_began(batch, {}, began_s)
    level.batch_ended(batch, {}, [], ended_s)


def promises(level: ServiceLevel, limits: Promises = ALL, *, accuracy: float = 0.9) -> dict[str, Promise]:
    found = level.promises(limits, accuracy=accuracy, model_bytes=12_000_000)
    return {promise.name: promise for promise in found}


def test_a_busy_second_is_what_rates_are_held_against() -> None:
    level = ServiceLevel(clock=lambda: 100.0)
    add(level, batch(9.0, 9.5), began_s=10.0, ended_s=10.1)
    add(level, batch(99.95), began_s=99.9, ended_s=100.0)
    assert promises(ServiceLevel(clock=lambda: 0.0))["p99_ms"].is_met is None
    found = promises(level)  # the first batch is more than a minute old
    assert found["p99_ms"].value == pytest.approx(50)
    assert found["answers_per_s"].value == pytest.approx(10)
    assert found["tokens_per_s"].value == pytest.approx(40)
    verdicts = {name: promise.is_met for name, promise in found.items()}
    assert verdicts == {
        "p99_ms": True,
        "answers_per_s": False,
        "tokens_per_s": False,
        "accuracy": True,
        "model_mb": False,
    }


def test_only_what_is_promised_is_reported() -> None:
    level = ServiceLevel(clock=lambda: LEVEL_WINDOW_S)
    assert promises(level, {}) == {}
    assert promises(level, {"accuracy": 0.5}, accuracy=0.0)["accuracy"].is_met is None


def test_the_memory_is_bounded() -> None:
    level = ServiceLevel(clock=lambda: 1.0)
    for place in range(MAX_BATCHES + 1):
        add(level, batch(0.0), began_s=0.0, ended_s=0.5 if place else 0.9)
    assert promises(level)["p99_ms"].value == pytest.approx(500)


def test_latencies_are_counted_since_the_start_also_those_beyond_the_last_bound() -> None:
    level = ServiceLevel(clock=lambda: 1_000.0)
    add(level, batch(9.997, 9.0), began_s=10.0, ended_s=10.0)
    add(level, batch(0.0), began_s=10.0, ended_s=10.0)
    counts, sum_ms = level.latencies()
    assert [counts[LATENCY_BOUNDS_MS.index(bound_ms)] for bound_ms in (1, 2, 5, 1_000)] == [0, 0, 1, 1]
    assert counts[-1] == 1
    assert sum_ms == pytest.approx(11_003)


def test_the_busy_share_is_that_of_the_last_minute() -> None:
    now = [0.0]
    level = ServiceLevel(clock=lambda: now[0])
    assert level.busy_share() == 0.0
    add(level, batch(0.0), began_s=0.0, ended_s=5.0)
    now[0] = 10.0
    assert level.busy_share() == pytest.approx(0.5), "it has run for ten seconds"
    now[0] = 100.0
    add(level, batch(90.0), began_s=70.0, ended_s=100.0)
    assert level.busy_share() == pytest.approx(30 / LEVEL_WINDOW_S)


def test_where_more_batches_came_than_are_known_the_share_is_that_of_their_time() -> None:
    level = ServiceLevel(clock=lambda: 100.0)
    level._started_s = 0.0
    for place in range(MAX_BATCHES):
        ended_s = 90.0 + 10.0 * (place + 1) / MAX_BATCHES
        add(level, batch(0.0), began_s=ended_s - 5.0 / MAX_BATCHES, ended_s=ended_s)
    assert level.busy_share() == pytest.approx(0.5, rel=0.01)
