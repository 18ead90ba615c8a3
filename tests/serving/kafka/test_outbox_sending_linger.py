"""Lingering: how long waiting records wait for others, and when the sender is woken."""

import math

from serving.kafka.outbox import Linger


def test_while_nothing_waits_it_is_never_over() -> None:
    assert Linger().rest_s(now_s=7.0) == math.inf
    assert not Linger().is_over(1e9)


def test_the_sender_is_woken_only_where_it_would_wake_too_late() -> None:
    linger = Linger()
    assert linger.shorten(1.0, now_s=10.0)
    assert not linger.shorten(2.0, now_s=10.5)
    assert linger.shorten(0.1, now_s=10.5)
    assert round(linger.rest_s(10.5), 6) == 0.1


def test_a_time_that_is_over_wakes_again() -> None:
    linger = Linger()
    linger.shorten(1.0, now_s=10.0)
    assert linger.shorten(1.0, now_s=12.0)


def test_it_ends_at_once_and_begins_anew() -> None:
    linger = Linger()
    linger.shorten(1.0, now_s=10.0)
    linger.end(10.2)
    assert linger.is_over(10.2)
    linger.restart()
    assert not linger.is_over(99.0)
