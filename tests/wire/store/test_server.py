"""Tests a server that is away, slow, full, misconfigured, or has lost its data."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from services.local.redis import LocalRedis, start_redis
from tests.required import missing
from tests.stores import CONFIGURABLE, KEYS, build_manifest, take_lease
from tests.wire.store.lossy import LossyProxy
from tests.wire.store.test_reports import make_report
from wire.config import StoreConfig
from wire.errors import StoreUnavailable, UnsafePolicy
from wire.records import Decision, RolloutPlan
from wire.store import Store

Key = Callable[..., str]

SOON_S = 10.0
"""Far less than a connection is waited for by default, and far more than a busy machine takes to notice."""


@pytest.fixture
def proxy(redis_server: LocalRedis) -> Iterator[LossyProxy]:
    proxy = LossyProxy(redis_server.url)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_server_that_may_evict_weights_is_refused(store: Store, setting: Any, policy: str) -> None:
    setting("maxmemory-policy", policy)
    with pytest.raises(UnsafePolicy, match=f"{policy}.*noeviction"):
        store.check_policy()


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-ttl"])
def test_a_server_that_keeps_weights_is_accepted(store: Store, setting: Any, policy: str) -> None:
    setting("maxmemory-policy", policy)
    store.check_policy()


def test_a_full_server_keeps_the_old_version(store: Store, setting: Any, raw: Any) -> None:
    lease = take_lease(store)
    store.versions.publish(build_manifest(store, 1, epoch=1), lease)
    second = build_manifest(store, 2, epoch=1)
    setting("maxmemory", 1)
    for attempt in (lambda: store.versions.publish(second, lease), lambda: store.blobs.put(b"more")):
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            attempt()
    assert (store.versions.current(), store.versions.manifest(1).version, len(store.versions.history(5))) == (1, 1, 1)
    raw.config_set("maxmemory", 1 << 30)
    store.versions.publish(second, lease)
    assert store.versions.current() == 2


def test_a_server_that_is_not_there_is_reported_soon_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    store = Store(StoreConfig(url=f"redis://me:secret@127.0.0.1:{port}/3"), KEYS)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{port}") as caught:
        store.versions.current()
    assert time.monotonic() - started < SOON_S
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
    store.close()


def test_a_server_that_says_nothing_is_reported_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        store = Store(StoreConfig(url=url, timeout_ms=100), KEYS)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.versions.current()
        assert time.monotonic() - started < SOON_S
        store.close()


@pytest.mark.parametrize("url", ["", "secret", "http://me:secret@there", "redis://there:secret", "redis://[secret"])
def test_an_address_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="redis://host:port/0") as caught:
        Store(StoreConfig(url=url), KEYS)
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_reported_without_it(redis_server: LocalRedis) -> None:
    store = Store(StoreConfig(url=redis_server.url.replace("//", "//me:secret@")), KEYS)
    with pytest.raises(StoreUnavailable, match="invalid username-password") as caught:
        store.versions.current()
    assert "secret" not in str(caught.value)
    store.close()


def test_one_effect_whatever_reply_is_lost(proxy: LossyProxy, store_config: StoreConfig, raw: Any, key: Key) -> None:
    """The reply of each script is lost twice; the client repeats the script, which has one effect."""
    store = Store(replace(store_config, url=proxy.url), KEYS)
    lease = take_lease(store)  # loads the scripts' first
    proxy.marker = b"EVALSHA"
    for version in range(1, 21):
        proxy.lose = 2
        lease = take_lease(store)
        manifest = build_manifest(store, version, epoch=lease.epoch)
        proxy.lose = 2
        store.versions.publish(manifest, lease)
        proxy.lose = 2
        decision = Decision(version=version, action="promoted", time_ms=version)
        store.plans.write(RolloutPlan(revision=version, salt="", arms=()), decision)
    assert proxy.lost >= 100
    assert (lease.epoch, store.versions.current(), len(store.versions.history(100))) == (1, 20, 20)
    assert len(store.plans.decisions.since(0, 100)) == 20
    assert raw.get(key("changes")) == b"40"
    store.close()


def test_what_is_not_repeated_fails_at_once(proxy: LossyProxy, store_config: StoreConfig) -> None:
    store = Store(replace(store_config, url=proxy.url), KEYS)
    proxy.marker = b"ZADD"
    proxy.lose = 5
    with pytest.raises(StoreUnavailable):
        store.reports.write_replica(make_report("a"))
    assert proxy.lost == 1
    store.close()


def test_a_killed_server_keeps_the_last_acknowledged_version(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        server = start_redis(tmp_path)
        store = Store(StoreConfig(url=server.url), KEYS)
        lease = take_lease(store)
        assert (store.versions.current(), lease.epoch) == (version - 1, version)
        store.versions.publish(build_manifest(store, version, epoch=lease.epoch), lease)
        store.leases.release(lease)
        server.process.kill()
        server.process.wait()
        with pytest.raises(StoreUnavailable):
            store.versions.current()
        store.close()
        server.stop()
    server = start_redis(tmp_path)
    store = Store(StoreConfig(url=server.url), KEYS)
    newest = store.versions.manifest(store.versions.current())
    blob = newest.tensors[0]
    assert store.blobs.get(blob.digest, blob.num_bytes) == b"weights of version 3"
    assert [entry.version for entry in store.versions.history(9)] == [3, 2, 1]
    store.close()
    server.stop()


def test_a_server_without_an_append_only_file_is_warned_of_once(store: Store, setting: Any) -> None:
    lease = take_lease(store)
    with capture_logs() as logs:
        for version in (1, 2):
            store.versions.publish(build_manifest(store, version, epoch=1), lease)
            store.versions.sync()
    assert [line["event"] for line in logs] == ["write_not_durable"]
    assert "appendonly" in store.why_not_durable()
    setting("appendonly", "yes")
    assert "appendonly" not in store.why_not_durable()


def test_a_version_is_served_before_the_disk_has_it_and_waited_for_where_the_server_can_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_redis(tmp_path, options=CONFIGURABLE)
    if int(server.version.split(".")[0]) < 8:
        server.stop()
        missing("redis8", f"Redis {server.version} has no WAITAOF, or one that returns early")
    store = Store(StoreConfig(url=server.url), KEYS)
    lease = take_lease(store)
    manifest = build_manifest(store, 1, epoch=1)
    with redis.Redis.from_url(server.url, protocol=2) as raw:
        raw.config_set("appendfsync", "no")
        monkeypatch.setattr("wire.store.server.DISK_WAIT_MS", 50)
        store.versions.publish(manifest, lease)
        with pytest.raises(StoreUnavailable, match="appendfsync"):
            store.versions.sync()
        raw.config_set("appendfsync", "always")
    monkeypatch.undo()
    store.versions.sync()
    assert (store.versions.current(), len(store.versions.history(5))) == (1, 1)
    store.close()
    server.stop()
