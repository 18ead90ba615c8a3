"""Tests blobs: a read returns the bytes that were put, or an error with the reason."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from tests.stores import KEYS
from wire.config import StoreConfig
from wire.errors import BlobCorrupt, NotFound, StoreUnavailable
from wire.store import Store
from wire.store.blobs import Blobs
from wire.store.server import Server

DATA = Random(7).randbytes(10_000)

Key = Callable[..., str]


@pytest.fixture
def store_config(store_config: StoreConfig) -> StoreConfig:
    return replace(store_config, chunk_bytes=1_024, max_blob_bytes=20_000)


@pytest.mark.parametrize("num_bytes", [0, 1, 1_023, 1_024, 1_025, 10_000])
def test_bytes_come_back(store: Store, num_bytes: int) -> None:
    digest = store.blobs.put(DATA[:num_bytes])
    assert digest == sha256(DATA[:num_bytes]).hexdigest()
    assert store.blobs.get(digest, num_bytes) == DATA[:num_bytes]


def test_a_blob_lies_in_chunks_and_is_written_once(store: Store, raw: Any, key: Key) -> None:
    name = key("blob", store.blobs.put(DATA))
    raw.hset(name, 3, b"")
    store.blobs.put(DATA)
    assert raw.hstrlen(name, 3) == 0
    assert max(raw.hstrlen(name, index) for index in range(10)) == 1_024


def test_a_writer_goes_on_in_the_chunks_of_the_one_before_it(store: Store, store_config: StoreConfig, raw: Any) -> None:
    digest = store.blobs.put(DATA)
    name = f"{store_config.prefix}blob:{digest}"
    raw.hdel(name, "bytes", 4, 5)
    assert store.blobs.has([digest]) == set()
    other = Store(replace(store_config, chunk_bytes=4_096), KEYS)
    assert other.blobs.put(memoryview(DATA)) == digest
    assert store.blobs.get(digest, len(DATA)) == DATA
    other.close()


def test_only_whole_blobs_are_there(store: Store) -> None:
    digest = store.blobs.put(DATA)
    assert store.blobs.has([digest, "0" * 64]) == {digest}
    assert store.blobs.has([]) == set()
    with pytest.raises(NotFound):
        store.blobs.get("0" * 64, 10)


def test_a_blob_that_lost_a_chunk_while_it_was_written_is_not_whole(store: Store, store_config: StoreConfig) -> None:
    class Interrupted(Server):
        def ask(self, *command: Any) -> Any:
            """Removes everything before the last chunk is written."""
            if command[0] == "HSET" and command[2] == 9:
                super().ask("DEL", command[1])
            return super().ask(*command)

    server = Interrupted(store_config)
    with pytest.raises(StoreUnavailable, match="put it again"):
        Blobs(server, store.collector.make_room).put(DATA)
    server.close()
    assert store.blobs.has([digest := sha256(DATA).hexdigest()]) == set()
    assert store.blobs.put(DATA) == digest
    assert store.blobs.get(digest, len(DATA)) == DATA


def flip_bit(raw: Any, name: str) -> None:
    chunk = bytearray(raw.hget(name, 2))
    chunk[100] ^= 1
    raw.hset(name, 2, bytes(chunk))


DAMAGE: dict[str, Callable[[Any, str], Any]] = {
    "one bit flipped": flip_bit,
    "a chunk truncated": lambda raw, name: raw.hset(name, 2, raw.hget(name, 2)[:-1]),
    "a chunk missing": lambda raw, name: raw.hdel(name, 2),
    "the last chunk missing": lambda raw, name: raw.hdel(name, 9),
    "a chunk too long": lambda raw, name: raw.hset(name, 9, bytes(5_000)),
    "two chunks swapped": lambda raw, name: raw.hset(name, mapping={2: raw.hget(name, 3), 3: raw.hget(name, 2)}),
    "a chunk twice": lambda raw, name: raw.hset(name, 3, raw.hget(name, 2)),
    "another size": lambda raw, name: raw.hset(name, "bytes", 9_999),
    "no size": lambda raw, name: raw.hset(name, "bytes", "many"),
    "chunks of nothing": lambda raw, name: raw.hset(name, "chunk", 0),
    "chunks without end": lambda raw, name: raw.hset(name, "chunk", "9" * 5_000),
    "chunks of a word": lambda raw, name: raw.hset(name, "chunk", "-5"),
    "no chunk size": lambda raw, name: raw.hdel(name, "chunk"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_blob_is_refused(store: Store, raw: Any, key: Key, damage: str) -> None:
    digest = store.blobs.put(DATA)
    DAMAGE[damage](raw, key("blob", digest))
    with pytest.raises(BlobCorrupt, match=digest):
        store.blobs.get(digest, len(DATA))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_blob_is_repaired(store: Store, raw: Any, key: Key, damage: str) -> None:
    """B14: a process that has the bytes repairs the blob."""
    digest = store.blobs.put(DATA)
    DAMAGE[damage](raw, key("blob", digest))
    assert store.blobs.repair(DATA)
    assert store.blobs.get(digest, len(DATA)) == DATA
    assert not store.blobs.repair(DATA)
    assert raw.zrange(key("blobs"), 0, -1) == [digest.encode()]
    assert len(raw.keys(key("blob", "*"))) == 1


def test_a_blob_that_is_gone_is_put_by_a_repair(store: Store) -> None:
    assert store.blobs.repair(DATA)
    assert store.blobs.get(sha256(DATA).hexdigest(), len(DATA)) == DATA


def test_readers_see_the_old_bytes_or_the_new_ones_while_a_blob_is_repaired(
    open_store: Callable[[], Store], raw: Any, key: Key
) -> None:
    """B14: a reader never gets a mixture."""
    writer = open_store()
    reader = open_store()
    stop = threading.Event()
    digest = writer.blobs.put(DATA)
    seen: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(bytes(reader.blobs.get(digest, len(DATA))))
            except BlobCorrupt:
                seen.append(b"")

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(30):
        flip_bit(raw, key("blob", digest))
        assert writer.blobs.repair(DATA)
    stop.set()
    thread.join()
    assert set(seen) <= {b"", DATA}
    assert writer.blobs.get(digest, len(DATA)) == DATA


def test_a_repair_that_was_cut_off_is_collected(store: Store, store_config: StoreConfig, raw: Any, key: Key) -> None:
    class Cut(Server):
        def run(self, script: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
            if "RENAME" in script:
                raise StoreUnavailable("cut off")
            return super().run(script, keys, args)

    digest = store.blobs.put(DATA)
    flip_bit(raw, key("blob", digest))
    server = Cut(store_config)
    with pytest.raises(StoreUnavailable, match="cut off"):
        Blobs(server, store.collector.make_room).repair(DATA)
    server.close()
    assert len(raw.keys(key("blob", "*"))) == 2
    raw.zunionstore(key("blobs"), {key("blobs"): 0})
    assert store.collector.collect([]) == 2


def test_every_flipped_bit_is_noticed(store: Store, raw: Any, key: Key) -> None:
    data = DATA[:3_000]
    rng = Random(3)
    name = key("blob", digest := store.blobs.put(data))
    for _ in range(200):
        index = rng.randrange(3)
        bit = rng.randrange(8)
        whole = raw.hget(name, index)
        chunk = bytearray(whole)
        chunk[rng.randrange(len(chunk))] ^= 1 << bit
        raw.hset(name, index, bytes(chunk))
        with pytest.raises(BlobCorrupt):
            store.blobs.get(digest, len(data))
        raw.hset(name, index, whole)
    assert store.blobs.get(digest, len(data)) == data


@pytest.mark.parametrize("num_bytes", [0, 9_999, 10_001])
def test_a_size_that_was_not_asked_for_is_refused(store: Store, num_bytes: int) -> None:
    digest = store.blobs.put(DATA)
    with pytest.raises(BlobCorrupt, match="instead of"):
        store.blobs.get(digest, num_bytes)


def test_a_giant_is_refused_before_it_is_looked_for(store: Store) -> None:
    with pytest.raises(BlobCorrupt, match="more than 20000"):
        store.blobs.get("0" * 64, 20_001)
    with pytest.raises(ValueError, match="the largest allowed is 20000"):
        store.blobs.put(bytes(20_001))


@pytest.mark.parametrize("digest", ["", "../etc", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_digest_is_no_key(store: Store, digest: str) -> None:
    with pytest.raises(BlobCorrupt, match="not a SHA-256"):
        store.blobs.get(digest, 1)
