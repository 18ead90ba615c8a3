"""Checks that work is timed without its first call, and as often as there is time for."""

from bench.harness.timing import seconds_of, shortest_s, thread_times_s


def work() -> int:
    return sum(range(10_000))


def test_times_are_of_the_work() -> None:
    assert seconds_of(work) > 0.0
    assert 0.0 < shortest_s(work, 0.05, calls=4) < 0.05


def test_as_many_calls_are_timed_as_there_is_time_for() -> None:
    calls: list[int] = []
    times_s = thread_times_s(lambda: calls.append(work()), 0.01)
    assert len(calls) == len(times_s) + 1
    assert sum(times_s[:-1]) < 0.01 <= sum(times_s)
