import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from learner.leadership import Leadership, LeaseFile
from services.local.redis import start_redis
from tests.learner.publish_rig import wipe
from tests.stores import KEYS
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.errors import StaleEpoch, StoreUnavailable
from wire.store import Lease, Store

pytestmark = pytest.mark.live


def leadership(store: Store, holder: str, *, ttl_ms: int = 60_000, highest_epoch: int = 0) -> Leadership:
    return Leadership(store.leases, "learner", holder, ttl_ms=ttl_ms, highest_epoch=lambda: highest_epoch)


def test_one_leads_and_the_next_when_it_lets_go(open_store: Callable[[], Store]) -> None:
    first = leadership(open_store(), "a")
    second = leadership(open_store(), "b")
    assert first.acquire() and not second.acquire()
    first.release()
    assert second.acquire() and second.lease.epoch == first.lease.epoch + 1


def test_a_successor_in_the_same_folder_does_not_wait(open_store: Callable[[], Store], tmp_path: Path) -> None:
    """The lease of a killed learner still runs, but the lock of its file is free."""
    path = tmp_path / "learner.lease"
    file = LeaseFile(path)
    first = Leadership(open_store().leases, "learner", "a", ttl_ms=60_000, file=file)
    assert first.acquire()
    standby_file = LeaseFile(path)
    standby = Leadership(open_store().leases, "learner", "b", ttl_ms=60_000, file=standby_file)
    assert not standby.acquire()
    standby_file.close()
    file.close()
    second = Leadership(open_store().leases, "learner", "a", ttl_ms=60_000, file=LeaseFile(path))
    assert second.acquire() and second.lease.epoch == first.lease.epoch + 1
    with pytest.raises(StaleEpoch):
        first.confirm()


@pytest.mark.parametrize("content", [b"", b"\0" * 80, b'{"name":"learner"}'])
def test_a_torn_lease_file_names_nobody(open_store: Callable[[], Store], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "learner.lease"
    path.write_bytes(content)
    first = Leadership(open_store().leases, "learner", "a", ttl_ms=60_000, file=LeaseFile(path))
    assert first.acquire()
    assert LeaseFile(path).read() is None  # another process has the lock


def test_the_epoch_is_above_all_that_was_written_elsewhere(open_store: Callable[[], Store]) -> None:
    """A wiped server counts epochs from the start; the folder of the checkpoints still has the old ones."""
    first = leadership(open_store(), "a", highest_epoch=57)
    second = leadership(open_store(), "b", highest_epoch=3)
    assert first.acquire() and first.lease.epoch == 58
    first.release()
    assert second.acquire() and second.lease.epoch == 59


def test_waiting_ends_when_told_to_stop(open_store: Callable[[], Store]) -> None:
    first = leadership(open_store(), "a")
    second = leadership(open_store(), "b")
    stop = threading.Event()
    assert first.wait(stop)
    stop.set()
    assert not second.wait(stop)


def test_a_lost_lease_is_noticed_before_something_is_written(open_store: Callable[[], Store]) -> None:
    first = leadership(open_store(), "a")
    second = leadership(open_store(), "b")
    assert first.acquire()
    first.confirm()
    first.release()
    assert second.acquire()
    first.check()
    with pytest.raises(StaleEpoch):
        first.confirm()
    with pytest.raises(StaleEpoch):
        first.check()
    second.confirm()


def test_a_lease_that_the_server_forgot_is_taken_again(store: Store) -> None:
    """FLUSHALL: the learner ended and was started again, and lost the state that was only in its memory."""
    first = leadership(store, "a", highest_epoch=7)
    assert first.acquire()
    before = first.lease
    wipe(store)
    first.confirm()
    assert (before.epoch, first.lease.epoch) == (8, 9)
    first.on_refusal(before, StaleEpoch("refused"))
    with pytest.raises(StaleEpoch):
        first.on_refusal(first.lease, StaleEpoch("refused"))


def test_two_threads_that_renew_a_forgotten_lease_take_it_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread mistook the lease that the other had just acquired for another process's, and released it."""
    it = leadership(store, "a")
    renew = store.leases.renew
    assert it.acquire()
    wipe(store)
    others: list[threading.Thread] = []

    def renew_beside_another(lease: Lease) -> bool:
        is_ours = renew(lease)
        if not others:
            others.append(threading.Thread(target=it.confirm))
            others[0].start()
            others[0].join(0.5)
        return is_ours

    monkeypatch.setattr(store.leases, "renew", renew_beside_another)
    it.confirm()
    others[0].join()
    it.confirm()
    assert it.lease.epoch == 2


def test_a_store_that_hangs_is_waited_for_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop waited for the renewal in the other thread, and then for the same store once more."""
    it = leadership(store, "a", ttl_ms=300)
    assert it.acquire()
    asked = threading.Event()
    hung = threading.Event()
    asked_by = []

    def hang(_lease: Lease) -> bool:
        asked_by.append(threading.current_thread().name)
        asked.set()
        hung.wait()
        raise StoreUnavailable("timeout")

    monkeypatch.setattr(store.leases, "renew", hang)
    with it.renewal():
        assert asked.wait(10)
        loop = threading.Thread(target=it.confirm, name="loop")
        loop.start()
        # By now the loop waits for the other thread.
        time.sleep(0.1)
        hung.set()
        loop.join(10)
    assert set(asked_by) == {"lease"} and not it.breaker.allows_requests


def test_a_store_that_is_known_to_be_away_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each checkpoint of an outage waited for the renewal that hung in the other thread."""
    leader = leadership(store, "a", ttl_ms=300)
    assert leader.acquire()
    renewing = threading.Event()
    answers = threading.Event()

    def hang(_lease: Lease) -> bool:
        renewing.set()
        answers.wait()
        raise StoreUnavailable("timeout")

    leader.breaker.trip(StoreUnavailable("timeout"))
    monkeypatch.setattr(store.leases, "renew", hang)
    with leader.renewal():
        assert renewing.wait(10)
        loop = threading.Thread(target=leader.confirm, name="loop")
        loop.start()
        loop.join(5)
        is_waiting = loop.is_alive()
        answers.set()
        loop.join(10)
    assert not is_waiting


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_lease_that_another_had_meanwhile_is_not_taken_again(open_store: Callable[[], Store], is_gone: bool) -> None:
    store = open_store()
    first = leadership(store, "a")
    second = leadership(open_store(), "b", highest_epoch=1)
    assert first.acquire()
    wipe(store)
    assert second.acquire()
    if is_gone:
        second.release()
    with pytest.raises(StaleEpoch):
        first.confirm()
    assert leadership(open_store(), "c").acquire() is is_gone


def test_the_lease_is_kept_while_its_holder_does_something_else(open_store: Callable[[], Store]) -> None:
    """B21: an iteration of the loop that took longer than the lifetime of the lease lost it."""
    first = leadership(open_store(), "a", ttl_ms=300)
    second = leadership(open_store(), "b", ttl_ms=300)
    assert first.acquire()
    with first.renewal():
        time.sleep(0.9)
        assert not second.acquire()
        first.check()
    eventually(second.acquire, within_s=2.0)
    assert second.lease.epoch == first.lease.epoch + 1


def test_the_first_refusal_ends_it(open_store: Callable[[], Store]) -> None:
    first = leadership(open_store(), "a", ttl_ms=150)
    second = leadership(open_store(), "b")
    assert first.acquire()
    first.release()
    assert second.acquire()

    def is_over() -> bool:
        time.sleep(0.02)
        try:
            first.check()
        except StaleEpoch:
            return True
        return False

    with first.renewal():
        eventually(is_over, within_s=5.0)


@pytest.mark.alone
def test_a_store_that_is_away_closes_its_reach_until_it_answers(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    store = Store(StoreConfig(url=server.url, timeout_ms=200), KEYS)
    it = leadership(store, "a", ttl_ms=300)
    assert it.acquire()
    server.process.send_signal(19)
    with it.renewal():
        eventually(lambda: not it.breaker.allows_requests, within_s=5.0)
        started_s = time.monotonic()
        it.confirm()
        assert time.monotonic() - started_s < 0.1, "a store that is known to be away is not asked"
        server.process.send_signal(18)
        eventually(lambda: it.breaker.allows_requests, within_s=5.0)
        it.confirm()
    store.close()
    server.stop()
