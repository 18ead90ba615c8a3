"""Tests of the laps of a stopwatch, and of the mean time of a label."""

from learner.stopwatch import Pace, Stopwatch


def test_each_lap_ends_where_the_next_begins() -> None:
    times_s = iter([1.0, 1.25, 1.75])
    watch = Stopwatch(lambda: next(times_s))
    watch.end("solve")
    watch.end("send")
    assert watch.ms == {"solve": 250.0, "send": 500.0}
    assert watch.total_ms == 750.0


def test_the_pace_is_that_of_an_item_and_an_empty_batch_counts_nothing() -> None:
    pace = Pace()
    assert pace.ms == 0.0
    pace.add(0.5, 10)
    pace.add(9.0, 0)
    pace.add(0.5, 10)
    assert pace.ms == 50.0
    assert pace.seconds(40) == 2.0
