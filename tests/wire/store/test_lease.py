"""Tests the lease: it has one holder at a time, and an epoch that grows with each holder."""

import threading
from collections.abc import Callable
from typing import Any

from wire.store import Lease, Store

Key = Callable[..., str]
Open = Callable[[], Store]


def run_out(raw: Any, key: Key, name: str = "learner") -> None:
    """Makes the lease expire."""
    raw.hset(key("lease", name), "ends_ms", 0)


def test_only_one_holds_it(open_store: Open) -> None:
    a = open_store()
    b = open_store()
    lease = a.leases.acquire("learner", "a", 60_000)
    assert lease is not None and lease.epoch == 1
    assert b.leases.acquire("learner", "b", 60_000) is None
    assert b.leases.acquire("another", "b", 60_000) is not None


def test_two_processes_with_one_name_are_two_holders(open_store: Open) -> None:
    assert open_store().leases.acquire("learner", "same", 60_000) is not None
    assert open_store().leases.acquire("learner", "same", 60_000) is None


def test_the_epoch_grows_with_each_holder(open_store: Open, raw: Any, key: Key) -> None:
    stores = [open_store(), open_store()]
    for turn in range(6):
        lease = stores[turn % 2].leases.acquire("learner", "x", 60_000)
        assert lease is not None and lease.epoch == turn + 1
        run_out(raw, key)


def test_asking_again_gives_the_same_lease(store: Store, raw: Any, key: Key) -> None:
    first = store.leases.acquire("learner", "a", 60_000)
    run_out(raw, key)
    assert store.leases.acquire("learner", "a", 60_000) == first
    assert int(raw.hget(key("lease", "learner"), "ends_ms")) > 0


def test_renewing_prolongs(store: Store, raw: Any, key: Key) -> None:
    lease = store.leases.acquire("learner", "a", 60_000)
    assert lease is not None
    run_out(raw, key)
    assert store.leases.renew(lease)
    assert int(raw.hget(key("lease", "learner"), "ends_ms")) > raw.time()[0] * 1_000 + 50_000


def test_who_lost_it_can_neither_renew_nor_release_it(open_store: Open, raw: Any, key: Key) -> None:
    a = open_store()
    b = open_store()
    old = a.leases.acquire("learner", "a", 60_000)
    run_out(raw, key)
    new = b.leases.acquire("learner", "b", 60_000)
    assert old is not None and new is not None
    assert not a.leases.renew(old)
    a.leases.release(old)
    assert b.leases.renew(new)
    assert a.leases.acquire("learner", "a", 60_000) is None


def test_a_released_lease_is_free_at_once(open_store: Open) -> None:
    a = open_store()
    b = open_store()
    lease = a.leases.acquire("learner", "a", 60_000)
    assert lease is not None
    a.leases.release(lease)
    a.leases.release(lease)
    next_lease = b.leases.acquire("learner", "b", 60_000)
    assert next_lease is not None and next_lease.epoch == 2
    assert not a.leases.renew(lease)


def test_a_lease_runs_out_by_the_servers_clock(open_store: Open) -> None:
    a = open_store()
    b = open_store()
    assert a.leases.acquire("learner", "a", 1) is not None
    tries = (b.leases.acquire("learner", "b", 60_000) for _ in range(10_000))
    next_lease = next(lease for lease in tries if lease is not None)
    assert next_lease.epoch == 2


HOUR_MS = 3_600_000


def clock_moves(raw: Any, key: Key, by_ms: int) -> None:
    """Simulates a step of the server's clock by `by_ms`: moves the times that it has written in the other direction."""
    raw.hincrby(key("lease", "learner"), "ends_ms", -by_ms)


def test_a_clock_that_was_an_hour_ahead_keeps_no_lease(open_store: Open, raw: Any, key: Key) -> None:
    """B18: the holder continues; if it has ended, the next holder waits no longer than the TTL."""
    a = open_store()
    b = open_store()
    lease = a.leases.acquire("learner", "a", 60_000)
    assert lease is not None
    clock_moves(raw, key, -HOUR_MS)
    assert a.leases.renew(lease)
    assert b.leases.acquire("learner", "b", 60_000) is None
    clock_moves(raw, key, -HOUR_MS)
    next_lease = b.leases.acquire("learner", "b", 60_000)
    assert next_lease is not None and next_lease.epoch == 2
    assert not a.leases.renew(lease)


def test_a_clock_that_was_an_hour_behind_ends_a_lease_and_no_more(open_store: Open, raw: Any, key: Key) -> None:
    """B18: a holder that renews before another acquires keeps its lease."""
    a = open_store()
    b = open_store()
    lease = a.leases.acquire("learner", "a", 60_000)
    assert lease is not None
    clock_moves(raw, key, HOUR_MS)
    assert a.leases.renew(lease)
    assert b.leases.acquire("learner", "b", 60_000) is None
    clock_moves(raw, key, HOUR_MS)
    assert b.leases.acquire("learner", "b", 60_000) is not None


def test_a_lease_for_longer_than_ours_is_respected(open_store: Open, raw: Any, key: Key) -> None:
    """A lease has its own TTL, since another program may have other settings, or be an older one."""
    a = open_store()
    b = open_store()
    assert a.leases.acquire("learner", "a", 60_000) is not None
    assert b.leases.acquire("learner", "b", 5_000) is None
    raw.hdel(key("lease", "learner"), "ttl_ms")
    assert b.leases.acquire("learner", "b", 60_000) is None


def test_a_race_has_one_winner(open_store: Open) -> None:
    stores = [open_store(), open_store()]
    rounds = 200
    barrier = threading.Barrier(2)
    won: list[list[Lease | None]] = [[], []]

    def race(who: int) -> None:
        for number in range(rounds):
            barrier.wait()
            won[who].append(stores[who].leases.acquire(f"race{number}", str(who), 60_000))

    threads = [threading.Thread(target=race, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(a is None) + (b is None) for a, b in zip(*won, strict=True)] == [1] * rounds
