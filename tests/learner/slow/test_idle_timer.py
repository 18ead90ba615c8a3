from collections.abc import Iterator

from learner.slow.idle_timer import IdleTimer
from tests.learner.streams import answer, feedback


def clock(*times_s: float) -> Iterator[float]:
    return iter(times_s)


def test_answers_do_not_end_the_silence_and_labels_do() -> None:
    times = clock(0.0, 4.0, 5.0, 6.0, 6.0, 10.9, 11.0)
    silence = IdleTimer(5.0, clock_s=lambda: next(times))
    assert not silence.after([answer(0)])
    assert silence.after([answer(1)])
    assert not silence.after([answer(2), feedback(2)])
    assert not silence.after([])
    assert silence.after([])


def test_without_a_time_there_is_no_silence() -> None:
    times = clock(0.0, 1e9)
    assert not IdleTimer(0.0, clock_s=lambda: next(times)).after([])
