"""Checks the times of arrivals, and which answers count as in time."""

import random
import time
from collections.abc import Sequence

import pytest

from bench.techniques import virtual_time
from bench.techniques.virtual_time import QUEUE_ITEMS, Text, play, poisson

TEXT = Text(token_ids=[1, 2, 3], label="x")


def test_arrivals_follow_the_rates_of_their_part_of_a_period() -> None:
    def drawn(_: random.Random) -> Text:
        return TEXT

    arrivals = list(poisson(drawn, rates=(20.0, 200.0), period_s=2.0, end_s=40.0, seed=1))
    calm = sum(at_s % 2 < 1 for at_s, _ in arrivals)
    assert abs(calm / len(arrivals) - 1 / 11) < 0.03
    assert [at_s for at_s, _ in arrivals] == sorted(at_s for at_s, _ in arrivals)


def test_texts_wait_in_order_and_texts_beyond_the_bound_are_refused() -> None:
    batches: list[tuple[int, float]] = []

    def answer(texts: Sequence[Text], load: float) -> None:
        batches.append((len(texts), load))

    arrivals = [(1.0, TEXT)] + [(1.0, TEXT)] * (QUEUE_ITEMS + 9) + [(5.0, TEXT)]
    assert play(arrivals, answer) == QUEUE_ITEMS + 1
    assert batches == [(QUEUE_ITEMS, 0.0), (1, 0.0)]


def test_an_answer_counts_if_its_text_was_answered_by_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    # A batch takes 0.1 s.
    monkeypatch.setattr(time, "thread_time", lambda: 0.1 * next(ticks))
    monkeypatch.setattr(virtual_time, "DEADLINE_S", 0.15)
    arrivals = [(0.0, TEXT), (0.04, TEXT), (0.06, TEXT)]
    assert play(arrivals, lambda texts, load: None) == 2
