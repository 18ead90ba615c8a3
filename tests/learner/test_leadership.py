import threading
from collections.abc import Callable

import pytest

from learner.leadership import Leadership
from wire.errors import StaleEpoch
from wire.store import Store

pytestmark = pytest.mark.live


def leadership(store: Store, holder: str, now_s: list[float]) -> Leadership:
    return Leadership(store, "learner", holder, ttl_ms=60_000, clock_s=lambda: now_s[0])


def test_one_leads_and_the_next_when_it_lets_go(open_store: Callable[[], Store]) -> None:
    first, second = leadership(open_store(), "a", [0.0]), leadership(open_store(), "b", [0.0])
    assert first.acquire() and not second.acquire()
    first.release()
    assert second.acquire() and second.lease.epoch == first.lease.epoch + 1


def test_waiting_ends_when_told_to_stop(open_store: Callable[[], Store]) -> None:
    first, second, stop = leadership(open_store(), "a", [0.0]), leadership(open_store(), "b", [0.0]), threading.Event()
    assert first.wait(stop)
    stop.set()
    assert not second.wait(stop)


def test_a_lost_lease_is_noticed_at_the_next_renewal(open_store: Callable[[], Store]) -> None:
    now_s = [0.0]
    first, second = leadership(open_store(), "a", now_s), leadership(open_store(), "b", now_s)
    assert first.acquire()
    first.release()
    assert second.acquire()
    now_s[0] = 19.0
    first.renew()
    now_s[0] = 20.0
    with pytest.raises(StaleEpoch):
        first.renew()
    second.renew()
