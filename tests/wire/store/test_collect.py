"""Tests garbage collection: needed versions and blobs stay during any concurrent operation."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytest

from tests.stores import build_manifest, make_entry, take_lease
from wire.config import StoreConfig
from wire.errors import BadSignature, NotFound, StoreUnavailable, WireError
from wire.records import Arm, RolloutPlan
from wire.store import Store
from wire.store.collect import _DROP, _SWEEP, GRACE_MS
from wire.store.server import Server

Key = Callable[..., str]
Open = Callable[[], Store]


@pytest.fixture
def server(store_config: StoreConfig) -> Iterator[Server]:
    server = Server(store_config)
    yield server
    server.close()


def publish(store: Store, through: int) -> list[str]:
    """Publishes versions 1 to `through`, each with its own blob; returns the digests of these blobs."""
    lease = take_lease(store)
    manifests = [build_manifest(store, version, epoch=lease.epoch) for version in range(1, through + 1)]
    for manifest in manifests:
        store.versions.publish(manifest, lease)
    return [manifest.tensors[0].digest for manifest in manifests]


def publish_patiently(learner: Store, version: int) -> None:
    """Publishes a version; puts its blob again if it was collected between put and publish."""
    while learner.versions.current() < version:
        with suppress(NotFound, StoreUnavailable):  # collected before it was published, or while it was put
            learner.versions.publish(build_manifest(learner, version, epoch=1), take_lease(learner))
    current = learner.versions.manifest(version).tensors[0]
    assert learner.blobs.get(current.digest, current.num_bytes) == b"weights of version %d" % version


@contextmanager
def collecting(store: Store, grace_ms: int) -> Iterator[list[WireError]]:
    """Collects garbage continuously during the block; yields the list of errors."""
    done = threading.Event()
    errors = list[WireError]()

    def collect() -> None:
        while not done.is_set():
            try:
                store.collector.collect([], grace_ms=grace_ms)
            except WireError as error:
                errors.append(error)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield errors
    finally:
        done.set()
        thread.join()


def age(raw: Any, key: Key) -> None:
    """Makes every blob seem to have been put before the grace period."""
    raw.zunionstore(key("blobs"), {key("blobs"): 0})


def test_what_nobody_keeps_goes(store: Store, raw: Any, key: Key) -> None:
    digests = publish(store, 4)
    age(raw, key)
    assert store.collector.collect([2]) == 4
    assert store.blobs.has(digests) == {digests[1], digests[3]}
    assert (store.versions.manifest(2).version, store.versions.manifest(4).version) == (2, 4)
    for version in (1, 3):
        with pytest.raises(NotFound):
            store.versions.manifest(version)
    assert store.collector.collect([2]) == 0


def test_a_blob_that_versions_share_stays(store: Store, raw: Any, key: Key) -> None:
    lease = take_lease(store)
    encoder = make_entry(store, b"the same encoder", "embed.word")
    for version in (1, 2, 3):
        manifest = build_manifest(store, version, epoch=1)
        store.versions.publish(msgspec.structs.replace(manifest, tensors=(*manifest.tensors, encoder)), lease)
    age(raw, key)
    assert store.collector.collect([]) == 4
    assert store.blobs.get(encoder.digest, encoder.num_bytes) == b"the same encoder"


def test_versions_in_the_plan_stay(store: Store, raw: Any, key: Key) -> None:
    digests = publish(store, 5)
    arms = (Arm(name="stable", version=2, share=0.9), Arm(name="candidate", version=4, share=0.1))
    store.plans.write(RolloutPlan(revision=1, salt="", arms=arms, previous=1))
    age(raw, key)
    store.collector.collect([])
    assert store.blobs.has(digests) == {digests[0], digests[1], digests[3], digests[4]}


def test_a_young_blob_stays_and_publishing_renews(store: Store, raw: Any, key: Key) -> None:
    orphan = store.blobs.put(b"not published yet")
    assert store.collector.collect([]) == 0
    age(raw, key)
    assert store.blobs.put(b"not published yet") == orphan
    assert store.collector.collect([]) == 0
    age(raw, key)
    assert store.collector.collect([]) == 1
    assert store.blobs.has([orphan]) == set()


def test_publishing_renews_the_time_of_its_blobs(store: Store, raw: Any, key: Key) -> None:
    lease = take_lease(store)
    manifest = build_manifest(store, 1, epoch=1)
    age(raw, key)
    store.versions.publish(manifest, lease)
    assert raw.zscore(key("blobs"), manifest.tensors[0].digest) > 0


def test_a_blob_that_was_put_again_since_we_looked_stays(store: Store, server: Server, key: Key) -> None:
    digest = store.blobs.put(b"again")
    cutoff = server.now_ms() - 60_000
    assert server.run(_SWEEP, [key("blobs"), key("blob", digest)], (cutoff, digest)) == 0
    assert store.blobs.has([digest]) == {digest}


def test_no_version_goes_when_pointer_or_plan_have_moved(store: Store, server: Server, key: Key) -> None:
    publish(store, 2)
    store.plans.write(RolloutPlan(revision=1, salt="", arms=()))
    keys = [key("current"), key("plan"), key("versions"), key("manifest", 1)]
    for current, revision in ((1, 1), (2, 0), (2, 2)):
        assert server.run(_DROP, keys, (current, revision, 1)) == -1
        assert store.versions.manifest(1).version == 1
    assert server.run(_DROP, keys, (2, 1, 1)) == 1


def test_half_a_blob_goes_like_a_whole_one(store: Store, raw: Any, key: Key) -> None:
    digest = store.blobs.put(b"half")
    raw.hdel(key("blob", digest), "bytes")
    age(raw, key)
    assert store.collector.collect([]) == 1
    assert not raw.exists(key("blob", digest))


def test_publishing_what_was_collected_is_refused_and_can_be_repeated(store: Store, raw: Any, key: Key) -> None:
    lease = take_lease(store)
    manifest = build_manifest(store, 1, epoch=1, data=b"late")
    age(raw, key)
    store.collector.collect([])
    with pytest.raises(NotFound, match=manifest.tensors[0].digest):
        store.versions.publish(manifest, lease)
    store.blobs.put(b"late")
    store.versions.publish(manifest, lease)
    assert store.versions.current() == 1


def test_nothing_is_swept_while_a_version_that_stays_cannot_be_read(store: Store, raw: Any, key: Key) -> None:
    digests = publish(store, 2)
    age(raw, key)
    raw.hset(key("manifest", 1), "signature", "forged")
    with pytest.raises(BadSignature):
        store.collector.collect([1])
    assert store.blobs.has(digests) == set(digests)


def test_more_than_one_batch(store: Store, raw: Any, key: Key) -> None:
    publish(store, 1)
    for number in range(150):
        store.blobs.put(b"orphan %d" % number)
    age(raw, key)
    assert store.collector.collect([]) == 150


def test_a_collector_never_breaks_a_learner(open_store: Open) -> None:
    """A publication without a grace period may have to put its blob again; a current version is always complete."""
    learner = open_store()
    with collecting(open_store(), grace_ms=0) as errors:
        for version in range(1, 81):
            publish_patiently(learner, version)
    assert not errors


def test_within_the_grace_period_a_learner_notices_nothing(open_store: Open) -> None:
    learner = open_store()
    with collecting(open_store(), GRACE_MS) as errors:
        digests = publish(learner, 60)
    assert learner.blobs.has(digests) == set(digests)
    assert not errors
