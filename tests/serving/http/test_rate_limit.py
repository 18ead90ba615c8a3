"""The token bucket of each client."""

import pytest

from serving.http.rate_limit import RateLimit


@pytest.fixture
def limit() -> RateLimit:
    return RateLimit(per_s=2, burst=4, max_clients=2)


def test_a_burst_is_let_through_and_then_the_rate(limit: RateLimit) -> None:
    assert limit.wait_s("a", 4, now_s=0) == 0
    assert limit.wait_s("a", 1, now_s=0) == 0.5
    assert limit.wait_s("a", 1, now_s=0.5) == 0


def test_what_was_refused_costs_nothing(limit: RateLimit) -> None:
    limit.wait_s("a", 3, now_s=0)
    assert limit.wait_s("a", 2, now_s=0) == 0.5
    assert limit.wait_s("a", 1, now_s=0) == 0


def test_clients_do_not_share(limit: RateLimit) -> None:
    limit.wait_s("a", 4, now_s=0)
    assert limit.wait_s("b", 4, now_s=0) == 0


def test_more_than_a_burst_can_be_had_when_the_bucket_is_full(limit: RateLimit) -> None:
    assert limit.wait_s("a", 99, now_s=0) == 0
    assert limit.wait_s("a", 99, now_s=0) == 2


def test_the_longest_unseen_client_is_forgotten(limit: RateLimit) -> None:
    for client in "abc":
        limit.wait_s(client, 4, now_s=0)
    assert limit.wait_s("a", 4, now_s=0) == 0
    assert limit.wait_s("c", 4, now_s=0) > 0


def test_a_clock_that_stands_still_gives_nothing(limit: RateLimit) -> None:
    limit.wait_s("a", 4, now_s=10)
    assert limit.wait_s("a", 1, now_s=9) > 0
