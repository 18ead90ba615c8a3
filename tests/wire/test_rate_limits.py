"""Tests the token bucket of each key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.rate_limits import TokenBuckets


@pytest.fixture
def buckets() -> TokenBuckets:
    return TokenBuckets(rate=2, burst=4, max_keys=2)


def test_a_burst_is_let_through_and_then_the_rate(buckets: TokenBuckets) -> None:
    assert buckets.take("a", 4, now=0) == 0
    assert buckets.take("a", 1, now=0) == 0.5
    assert buckets.take("a", 1, now=0.5) == 0


def test_a_refused_request_takes_no_tokens(buckets: TokenBuckets) -> None:
    buckets.take("a", 3, now=0)
    assert buckets.take("a", 2, now=0) == 0.5
    assert buckets.take("a", 1, now=0) == 0


def test_keys_do_not_share_a_bucket(buckets: TokenBuckets) -> None:
    buckets.take("a", 4, now=0)
    assert buckets.take("b", 4, now=0) == 0


def test_more_than_a_burst_is_granted_when_the_bucket_is_full(buckets: TokenBuckets) -> None:
    assert buckets.take("a", 99, now=0) == 0
    assert buckets.take("a", 99, now=0) == 2


def test_the_least_recently_used_key_is_evicted(buckets: TokenBuckets) -> None:
    for key in "abc":
        buckets.take(key, 4, now=0)
    assert buckets.take("a", 4, now=0) == 0
    assert buckets.take("c", 4, now=0) > 0


def test_time_that_goes_back_refills_nothing(buckets: TokenBuckets) -> None:
    buckets.take("a", 4, now=10)
    assert buckets.take("a", 1, now=9) == 0.5
    assert buckets.take("a", 1, now=10) == 0.5


def test_the_buckets_are_exported_least_recently_used_first(buckets: TokenBuckets) -> None:
    for key in ("a", "b", "a"):
        buckets.take(key, 1, now=0)
    assert list(buckets.export().items()) == [("b", (3.0, 0)), ("a", (2.0, 0))]
    restored = TokenBuckets(rate=2, burst=4, max_keys=2, buckets=buckets.export())
    assert restored.take("a", 3, now=0) == buckets.take("a", 3, now=0) == 0.5


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(0, 100))))
def test_no_key_takes_more_than_its_burst_and_its_rate_together(requests: list[tuple[int, float]]) -> None:
    buckets = TokenBuckets(rate=2, burst=4, max_keys=2)
    taken = sum(min(num, 4) for num, now in requests if buckets.take("a", num, now=now) == 0.0)
    times = [now for _, now in requests] or [0.0]
    assert taken <= 4 + 2 * (max(times) - times[0]) + 1e-6


@given(st.integers(1, 9), st.integers(1, 9))
def test_after_the_time_that_it_returned_there_are_enough(first: int, second: int) -> None:
    buckets = TokenBuckets(rate=2, burst=4, max_keys=2)
    buckets.take("a", first, now=0)
    wait = buckets.take("a", second, now=0)
    assert wait == 0.0 or buckets.take("a", second, now=wait) == 0.0
