"""Checks that functions are timed without the first call, and repeated until the time is used up."""

from bench.harness.timing import elapsed_s, fastest_call_s, thread_times_s


def work() -> int:
    return sum(range(10_000))


def test_times_are_of_the_work() -> None:
    assert elapsed_s(work) > 0.0
    assert 0.0 < fastest_call_s(work, 0.05, calls=4) < 0.05


def test_calls_are_timed_until_the_time_is_used_up() -> None:
    calls: list[int] = []
    times_s = thread_times_s(lambda: calls.append(work()), 0.01)
    assert len(calls) == len(times_s) + 1
    assert sum(times_s[:-1]) < 0.01 <= sum(times_s)
