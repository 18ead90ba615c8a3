"""Tests the pauses between attempts."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from wire.backoff import Backoff


@given(st.integers(1, 10_000), st.floats(0.01, 60), st.floats(0, 1), st.integers(0, 1 << 32))
def test_a_pause_is_bounded(num_failures: int, first_s: float, jitter: float, seed: int) -> None:
    backoff = Backoff(first_s=first_s, longest_s=2.0, jitter=jitter, draw=Random(seed).random)
    assert first_s * (1 - jitter) <= backoff.pause_s(num_failures) <= max(2.0, first_s)


def test_the_random_part_is_a_share_of_the_pause() -> None:
    backoff = Backoff(first_s=1.0, longest_s=8.0, jitter=0.25, draw=lambda: 0.5)
    assert [backoff.pause_s(num_failures) for num_failures in (1, 2, 4)] == [0.875, 1.75, 7.0]


def test_a_first_pause_longer_than_the_longest_is_kept() -> None:
    backoff = Backoff(first_s=60.0, longest_s=2.0)
    assert [backoff.pause_s(num_failures) for num_failures in (1, 2)] == [60.0, 60.0]
