"""Tests a server that is full or nearly full: which writes succeed, and who frees memory. It has its own server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from services.local.redis import LocalRedis, start_redis
from tests.stores import CONFIGURABLE, KEYS, build_manifest, take_lease
from wire.config import StoreConfig
from wire.errors import StoreFull
from wire.records import Arm, Decision, RolloutPlan
from wire.store import Store


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalRedis]:
    server = start_redis(tmp_path, options={**CONFIGURABLE, "appendonly": ["no"]})
    yield server
    server.stop()


@pytest.fixture
def raw(server: LocalRedis) -> Iterator[Any]:
    with redis.Redis.from_url(server.url, protocol=2) as client:
        yield client


@pytest.fixture
def open_store(server: LocalRedis) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(Store(StoreConfig(url=server.url), KEYS))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def fill(store: Store, raw: Any, *, share: float, age_ms: int = 0) -> None:
    """Publishes 40 versions of 100,000 bytes, and sets `maxmemory` so that `share` of it is used."""
    lease = take_lease(store)
    for version in range(1, 41):
        store.versions.publish(
            build_manifest(store, version, epoch=lease.epoch, data=b"%06d" % version * 17_000), lease
        )
    for digest, put_ms in raw.zrange("lifelong:blobs", 0, -1, withscores=True):
        raw.zadd("lifelong:blobs", {digest: put_ms - age_ms})
    shrink(raw, share)


def shrink(raw: Any, share: float) -> None:
    raw.config_set("maxmemory", int(raw.info("memory")["used_memory"] / share))


def build_plan(version: int) -> RolloutPlan:
    return RolloutPlan(revision=1, salt="", arms=(Arm(name="stable", version=version, share=1.0),))


def test_a_full_server_grants_and_renews_leases_and_takes_plans(open_store: Callable[[], Store], raw: Any) -> None:
    """B11: otherwise no leader could free memory, and no operator could roll back."""
    store = open_store()
    other = open_store()
    lease = take_lease(store)
    store.versions.publish(build_manifest(store, 1, epoch=1), lease)
    raw.config_set("maxmemory", 1)
    assert store.leases.renew(lease)
    assert other.leases.acquire("learner", "b", 60_000) is None
    assert other.leases.acquire("rollout", "b", 60_000) is not None
    store.leases.release(lease)
    assert take_lease(other).epoch == 2
    store.plans.write(build_plan(1), Decision(version=1, action="promoted", time_ms=0), current=1)
    assert store.plans.read() == build_plan(1)
    assert store.plans.decisions.since(0, 1)[0].action == "promoted"


@pytest.mark.parametrize("share", [0.85, 1.1])
def test_a_full_server_is_emptied_by_whoever_publishes(store: Store, raw: Any, share: float) -> None:
    """B11: without a controller, the newest versions and the versions of the plan stay."""
    fill(store, raw, share=share, age_ms=11_000)
    store.plans.write(build_plan(2))
    store.versions.publish(build_manifest(store, 41, epoch=1, data=b"one more" * 10_000), take_lease(store))
    assert store.versions.stored() == [2, *range(25, 42)]


@pytest.mark.parametrize("share", [0.85, 1.1])
def test_a_full_server_is_emptied_by_collecting_without_a_lease(
    open_store: Callable[[], Store], raw: Any, share: float
) -> None:
    """B11."""
    fill(open_store(), raw, share=share)
    assert open_store().collector.collect([40], grace_ms=-1) == 78
    open_store().collector.make_room()


def test_nothing_is_published_where_there_is_no_room_for_it(store: Store, raw: Any) -> None:
    """B11: the error is clear, and nothing is written. All blobs are too young to be removed."""
    fill(store, raw, share=0.85)
    with pytest.raises(StoreFull, match=r"bytes are used \(maxmemory\), and 3 more would be above 80%"):
        store.blobs.put(b"new")
    raw.config_set("maxmemory", 0)
    store.blobs.put(b"new")


def test_a_large_blob_needs_room_for_itself(store: Store, raw: Any) -> None:
    shrink(raw, 0.5)
    store.blobs.put(b"small")
    with pytest.raises(StoreFull):
        store.blobs.put(bytes(int(raw.info("memory")["used_memory"])))
