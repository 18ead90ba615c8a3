"""A real Redis server for the tests, and a store with keys of its own in it for each test."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from services.local.redis import LocalRedis, NoRedis, find_binary, start_redis
from tests.required import missing
from wire.config import StoreConfig
from wire.keyring import parse
from wire.records import Evaluation, RolloutPlan, TensorEntry, TensorPart, WeightManifest, key_name
from wire.store import Lease, Store
from wire.store.signed import encode

SIGNING_KEY = b"a key for the tests"
KEYS = parse(SIGNING_KEY.decode())

CONFIGURABLE = {"rename-command": ["CONFIG", "CONFIG"]}
"""Options of a server that tests may reconfigure while it runs: ours disables CONFIG."""

_numbers = count()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
    """Starts one server for all tests, without a file: since Redis 7.2 each publication would wait for the disk."""
    try:
        find_binary()
    except NoRedis as why:
        missing("redis", str(why))
    folder = Path(tmp_path_factory.mktemp("redis"))
    server = start_redis(folder, options={**CONFIGURABLE, "appendonly": ["no"]})
    yield server
    server.stop()


@pytest.fixture
def store_config(redis_server: LocalRedis) -> StoreConfig:
    """Returns the server's address, with a prefix that no other test has and a short poll interval."""
    return StoreConfig(url=redis_server.url, prefix=f"test{next(_numbers)}:", poll_interval_ms=50)


@pytest.fixture
def open_store(store_config: StoreConfig) -> Iterator[Callable[[], Store]]:
    """Returns a function that opens one more store on the test's keys, as another process would."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(Store(store_config, KEYS))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """Returns a store that no other test sees."""
    return open_store()


@pytest.fixture
def raw(redis_server: LocalRedis) -> Iterator[Any]:
    """Opens a plain Redis client, for tests that corrupt stored data."""
    client = redis.Redis.from_url(redis_server.url, protocol=2)
    yield client
    client.close()


@pytest.fixture
def setting(raw: Any) -> Iterator[Callable[[str, object], None]]:
    """Returns a function that changes a setting of the server until the end of the test."""
    before: dict[str, Any] = {}

    def change(name: str, value: object) -> None:
        before.update({**raw.config_get(name), **before})
        raw.config_set(name, value)

    yield change
    for name, value in before.items():
        raw.config_set(name, value)


@pytest.fixture
def key(store_config: StoreConfig) -> Callable[..., str]:
    """Returns a function that makes the names of this test's keys."""
    return lambda *parts: key_name(store_config.prefix, *parts)


def take_lease(store: Store, holder: str = "a") -> Lease:
    """Acquires the learner's lease, which must be free."""
    lease = store.leases.acquire("learner", holder, 60_000)
    assert lease is not None, "somebody else has the lease"
    return lease


def make_entry(store: Store, data: bytes, name: str = "head.out") -> TensorEntry:
    """Stores `data` as a blob; returns the entry of a tensor with it."""
    part = TensorPart(name="q", dtype="I8", shape=(len(data),))
    return TensorEntry(name=name, scheme="w8c", digest=store.blobs.put(data), num_bytes=len(data), parts=(part,))


def plant_plan(config: StoreConfig, plan: RolloutPlan) -> None:
    """Puts `plan` in force without any check, as an earlier program may have left it."""
    body = encode(plan)
    name = key_name(config.prefix, "plan")
    fields = {"body": body, "signature": KEYS.sign(body, name), "revision": plan.revision}
    with redis.Redis.from_url(config.url, protocol=2) as client:
        client.hset(name, mapping=fields)


def build_manifest(
    store: Store, version: int, *, epoch: int, parent: int | None = None, data: bytes = b""
) -> WeightManifest:
    """Returns a manifest of one small tensor, whose blob is stored. Its parent is by default the version before."""
    return WeightManifest(
        version=version,
        parent=version - 1 if parent is None else parent,
        model_spec="spec",
        config="{}",
        labels=("yes", "no"),
        precisions=(),
        tensors=(make_entry(store, data or b"weights of version %d" % version),),
        probes=(),
        trained_through={"feedback.v1/0": version},
        evaluation=Evaluation(),
        epoch=epoch,
        created_ms=1_000 + version,
    )


def publish(store: Store, lease: Lease, through: int) -> list[WeightManifest]:
    """Publishes versions 1 to `through`, one after another."""
    manifests = [build_manifest(store, version, epoch=lease.epoch) for version in range(1, through + 1)]
    for manifest in manifests:
        store.versions.publish(manifest, lease)
    return manifests
