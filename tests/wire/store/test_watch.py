"""Tests waiting for a change: it is notified at once, and found without a notice, too."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.stores import KEYS, build_manifest, take_lease
from wire.config import StoreConfig
from wire.records import RolloutPlan
from wire.store import Store, Watch

Key = Callable[..., str]


@pytest.fixture
def watch(store: Store) -> Iterator[Watch]:
    watch = store.watch()
    yield watch
    watch.close()


def build_plan(revision: int) -> RolloutPlan:
    return RolloutPlan(revision=revision, salt="", arms=())


def test_nothing_happens(watch: Watch) -> None:
    assert not watch.wait(0.0)
    assert not watch.wait(0.12)


def test_each_change_is_told_once(store: Store, watch: Watch) -> None:
    store.versions.publish(build_manifest(store, 1, epoch=1), take_lease(store))
    assert watch.wait(5.0)
    assert not watch.wait(0.0)
    store.plans.write(build_plan(1))
    store.plans.write(build_plan(2))
    assert watch.wait(5.0)
    assert not watch.wait(0.0)


def test_what_was_there_before_is_no_change(store: Store) -> None:
    store.plans.write(build_plan(1))
    watch = store.watch()
    assert not watch.wait(0.0)
    watch.close()


def test_a_notice_wakes_long_before_the_next_poll(store_config: StoreConfig, raw: Any, key: Key) -> None:
    store = Store(replace(store_config, poll_interval_ms=60_000), KEYS)
    watch = store.watch()
    woken = []
    waiter = threading.Thread(target=lambda: woken.append((watch.wait(50.0), time.monotonic())))
    waiter.start()
    while not raw.pubsub_numsub(key("changes"))[0][1]:
        pass
    store.plans.write(build_plan(1))
    written = time.monotonic()
    waiter.join()
    assert woken[0][0] and woken[0][1] - written < 5.0
    watch.close()
    store.close()


def test_a_change_without_a_notice_is_found_by_polling(watch: Watch, raw: Any, key: Key) -> None:
    assert not watch.wait(0.0)
    silent = threading.Thread(target=raw.incr, args=(key("changes"),))
    silent.start()
    assert watch.wait(5.0)
    silent.join()


def test_a_lost_connection_loses_no_change(store: Store, watch: Watch, raw: Any, key: Key) -> None:
    assert not watch.wait(0.12)
    assert raw.pubsub_numsub(key("changes"))[0][1] == 1
    for revision in (1, 2, 3):
        raw.client_kill_filter(_type="pubsub")
        store.plans.write(build_plan(revision))
        assert watch.wait(5.0)


def test_a_lost_connection_is_made_again(watch: Watch, raw: Any, key: Key) -> None:
    assert not watch.wait(0.12)
    raw.client_kill_filter(_type="pubsub")
    while not raw.pubsub_numsub(key("changes"))[0][1]:
        assert not watch.wait(0.06)


def test_close_ends_the_wait(store: Store) -> None:
    watch = store.watch()
    ended = []
    waiter = threading.Thread(target=lambda: ended.append(watch.wait(60.0)))
    waiter.start()
    watch.close()
    waiter.join(10.0)
    assert ended == [False]
    assert not watch.wait(60.0)
