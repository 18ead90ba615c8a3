"""Tests versions: publishing is atomic, for the holder of the lease, after the parent."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.stores import KEYS, build_manifest, make_entry, publish, take_lease
from wire.config import StoreConfig
from wire.errors import BlobCorrupt, NotFound, ParentMoved, StaleEpoch
from wire.records import RolloutPlan
from wire.store import Store
from wire.store.signed import encode

GOLDEN = Path(__file__).parent.parent / "golden"

Key = Callable[..., str]
Open = Callable[[], Store]


def test_an_empty_store_has_no_version(store: Store) -> None:
    assert (store.versions.current(), store.versions.next_number(), store.versions.history(10)) == (0, 1, [])
    with pytest.raises(NotFound, match="version 3 is not stored"):
        store.versions.manifest(3)


def test_a_published_version_is_read_back(store: Store) -> None:
    manifests = publish(store, take_lease(store), 3)
    assert [store.versions.manifest(version) for version in (1, 2, 3)] == manifests
    assert (store.versions.current(), store.versions.next_number()) == (3, 4)
    assert [(entry.action, entry.version, entry.time_ms) for entry in store.versions.history(2)] == [
        ("published", 3, 1_003),
        ("published", 2, 1_002),
    ]


def test_what_versions_name_is_read_once_and_again_after_a_wipe(store: Store, raw: Any, key: Key) -> None:
    first, _, third = publish(store, take_lease(store), 3)
    raw.hset(key("manifest", 2), "signature", "forged")
    contents = store.versions.contents()
    digests = {version: list(found.blobs) for version, found in contents.items()}
    assert digests == {1: [first.tensors[0].digest], 3: [third.tensors[0].digest]}
    raw.hset(key("manifest", 1), "body", b"not read again")
    assert list(store.versions.contents()) == [1, 3]
    raw.delete(*raw.keys(key("*")))
    assert store.versions.contents() == {}
    lease = take_lease(store)
    other = build_manifest(store, 1, epoch=lease.epoch, data=b"of another life")
    store.versions.publish(other, lease)
    assert list(store.versions.contents()[1].blobs) == [other.tensors[0].digest]


def test_repeating_a_publication_changes_nothing(store: Store, raw: Any, key: Key) -> None:
    lease = take_lease(store)
    first, second = publish(store, lease, 2)
    changes = raw.get(key("changes"))
    store.versions.publish(second, lease)
    store.versions.publish(first, lease)
    assert (store.versions.current(), len(store.versions.history(10)), raw.get(key("changes"))) == (2, 2, changes)


def test_another_manifest_under_a_used_number_is_refused(store: Store) -> None:
    lease = take_lease(store)
    publish(store, lease, 1)
    with pytest.raises(ParentMoved, match="1 is current"):
        store.versions.publish(build_manifest(store, 1, epoch=1, data=b"other"), lease)
    store.plans.write(RolloutPlan(revision=1, salt="", arms=()), current=0)
    with pytest.raises(ParentMoved, match="published before, with other contents"):
        store.versions.publish(build_manifest(store, 1, epoch=1, data=b"other"), lease)
    assert store.versions.next_number() == 2


def test_a_parent_that_is_not_current_is_refused(store: Store) -> None:
    lease = take_lease(store)
    publish(store, lease, 2)
    for parent in (0, 1, 3):
        with pytest.raises(ParentMoved, match="2 is current"):
            store.versions.publish(build_manifest(store, 3, parent=parent, epoch=1), lease)
    assert store.versions.current() == 2


def test_a_wiped_store_takes_any_parent(store: Store) -> None:
    store.versions.publish(build_manifest(store, 17, epoch=1), take_lease(store))
    assert (store.versions.current(), store.versions.next_number()) == (17, 18)


def test_a_learner_that_lost_the_lease_is_refused(open_store: Open, raw: Any, key: Key) -> None:
    old = open_store()
    new = open_store()
    old_lease = take_lease(old, "old")
    manifest = build_manifest(old, 1, epoch=1)
    raw.hset(key("lease", "learner"), "ends_ms", 0)
    new_lease = take_lease(new, "new")
    with pytest.raises(StaleEpoch, match="epoch 2 now, this learner's is 1"):
        old.versions.publish(manifest, old_lease)
    new.versions.publish(build_manifest(new, 1, epoch=2, data=b"new"), new_lease)
    with pytest.raises(StaleEpoch):
        old.versions.publish(manifest, old_lease)
    assert new.versions.manifest(1).epoch == 2


def test_a_released_lease_publishes_nothing(store: Store) -> None:
    lease = take_lease(store)
    store.leases.release(lease)
    with pytest.raises(StaleEpoch):
        store.versions.publish(build_manifest(store, 1, epoch=lease.epoch), lease)


def test_a_lease_of_an_earlier_turn_publishes_nothing(store: Store) -> None:
    first = take_lease(store)
    manifest = build_manifest(store, 1, epoch=first.epoch)
    store.leases.release(first)
    assert take_lease(store).epoch == 2
    with pytest.raises(StaleEpoch):
        store.versions.publish(manifest, first)


def test_an_epoch_below_the_last_published_one_is_refused(store: Store, raw: Any, key: Key) -> None:
    raw.set(key("epoch"), 5)
    with pytest.raises(StaleEpoch, match="epoch 5"):
        store.versions.publish(build_manifest(store, 1, epoch=1), take_lease(store))


def test_a_manifest_of_another_epoch_is_refused(store: Store) -> None:
    with pytest.raises(StaleEpoch, match="made in epoch 4"):
        store.versions.publish(build_manifest(store, 1, epoch=4), take_lease(store))


def test_two_publishers_of_one_number_have_one_winner(open_store: Open) -> None:
    store = open_store()
    lease = take_lease(store)
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def race(who: int) -> None:
        for version in range(1, 51):
            manifest = build_manifest(store, version, epoch=1, data=b"%d of %d" % (version, who))
            barrier.wait()
            try:
                store.versions.publish(manifest, lease)
                outcomes.append("won")
            except ParentMoved:
                outcomes.append("lost")
            barrier.wait()

    threads = [threading.Thread(target=race, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.count("won"), outcomes.count("lost"), store.versions.current()) == (50, 50, 50)


@pytest.mark.parametrize("num_bytes", [6, 8])
def test_a_blob_that_is_not_there_is_named_and_the_version_stays(store: Store, num_bytes: int) -> None:
    lease = take_lease(store)
    publish(store, lease, 1)
    there = make_entry(store, b"sevenbs")
    stranger = make_entry(store, b"other")
    stranger = msgspec.structs.replace(stranger, digest="f" * 64)
    wrong = msgspec.structs.replace(there, num_bytes=num_bytes)
    for tensors, named in (((there, stranger), "f" * 64), ((wrong,), there.digest)):
        with pytest.raises(NotFound, match=named):
            store.versions.publish(msgspec.structs.replace(build_manifest(store, 2, epoch=1), tensors=tensors), lease)
    assert store.versions.current() == 1


def test_a_giant_tensor_is_refused_on_both_sides(store: Store, store_config: StoreConfig, raw: Any, key: Key) -> None:
    giant = msgspec.structs.replace(make_entry(store, b"x"), num_bytes=store_config.max_blob_bytes + 1)
    manifest = msgspec.structs.replace(build_manifest(store, 1, epoch=1), tensors=(giant,))
    with pytest.raises(BlobCorrupt, match=r"head\.out"):
        store.versions.publish(manifest, take_lease(store))
    raw.hset(
        key("manifest", 1),
        mapping={"body": encode(manifest), "signature": KEYS.sign(encode(manifest), key("manifest", 1))},
    )
    with pytest.raises(BlobCorrupt, match=r"head\.out"):
        store.versions.manifest(1)


def test_version_0_cannot_be_published(store: Store) -> None:
    with pytest.raises(ValueError, match="the first is 1"):
        store.versions.publish(build_manifest(store, 0, parent=0, epoch=1), take_lease(store))


def test_the_history_is_bounded(store_config: StoreConfig) -> None:
    store = Store(StoreConfig(url=store_config.url, prefix=store_config.prefix, history=3), KEYS)
    publish(store, take_lease(store), 5)
    assert [entry.version for entry in store.versions.history(10)] == [5, 4, 3]
    assert store.versions.history(0) == []
    store.close()
