"""Checks the rows of the swaps."""

import random

from bench.swaps import NUM_SWAPS, mean_interval, stall_rows
from evals.results.row import Row


def rows_by_name(pairs: list[tuple[float, float]]) -> dict[str, Row]:
    return {row.name.removeprefix("swap_stall."): row for row in stall_rows(pairs)}


def test_the_cost_of_a_swap_is_judged_by_the_upper_end_of_its_interval() -> None:
    rng = random.Random(0)
    pauses_ms = [rng.uniform(0.1, 3.0) for _ in range(NUM_SWAPS)]
    same = rows_by_name([(pause_ms + 0.5, pause_ms) for pause_ms in pauses_ms])
    assert (same["added"].calls[0].value, same["added"].met) == (0.5, True)
    noisy = rows_by_name([(pause_ms + rng.choice([0.0, 2.2]), pause_ms) for pause_ms in pauses_ms])
    assert noisy["added"].met is False
    assert "mean 1." in noisy["added"].calls[0].note


def test_without_a_pair_for_each_swap_there_is_no_value() -> None:
    pairs = [(0.2, 0.1)] * (NUM_SWAPS - 1) + [(0.0, 0.0)]
    for row in rows_by_name(pairs).values():
        assert (row.calls[0].value, row.met) == (None, False)
        assert row.calls[0].note == "199 stalls were reported, 200 expected"


def test_an_interval_of_the_mean_covers_it_in_about_nineteen_of_twenty_samples() -> None:
    rng = random.Random(1)
    hits = 0
    for _ in range(40):
        least, most = mean_interval([rng.expovariate(1.0) for _ in range(200)])
        hits += least <= 1.0 <= most
    assert hits >= 35
