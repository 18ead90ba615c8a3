from collections.abc import Iterator

from learner.slow.idle_timer import IdleTimer
from tests.learner.streams import answer, feedback


def clock(*times_s: float) -> Iterator[float]:
    return iter(times_s)


def test_labels_restart_the_timer_and_answers_do_not() -> None:
    times = clock(0.0, 4.0, 5.0, 6.0, 6.0, 10.9, 11.0)
    timer = IdleTimer(5.0, clock_s=lambda: next(times))
    assert not timer.is_idle_after([answer(0)])
    assert timer.is_idle_after([answer(1)])
    assert not timer.is_idle_after([answer(2), feedback(2)])
    assert not timer.is_idle_after([])
    assert timer.is_idle_after([])


def test_a_time_of_zero_means_never_idle() -> None:
    times = clock(0.0, 1e9)
    assert not IdleTimer(0.0, clock_s=lambda: next(times)).is_idle_after([])
