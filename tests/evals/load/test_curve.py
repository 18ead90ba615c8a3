"""Accuracy over time, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from evals.load.curve import Curve


def test_a_bucket_is_a_second() -> None:
    curve = Curve()
    for time_ms, right in ((10_100, True), (10_900, False), (12_000, True)):
        curve.add(time_ms, right=right)
    assert [(point.second, point.answered, point.accuracy) for point in curve.points(10_000)] == [
        (0.0, 2, 50.0),
        (2.0, 1, 100.0),
    ]


@given(st.lists(st.tuples(st.integers(0, 10**9), st.booleans())))
def test_a_long_run_gets_wider_buckets_and_loses_no_answer(answers: list[tuple[int, bool]]) -> None:
    curve = Curve(max_buckets=4)
    for time_ms, right in answers:
        curve.add(time_ms, right=right)
    points = curve.points(0)
    assert len(points) <= 4
    assert sum(point.answered for point in points) == len(answers)
    assert sum(point.right for point in points) == sum(right for _, right in answers)
