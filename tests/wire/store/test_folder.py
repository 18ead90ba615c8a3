"""Copies of plan, manifests and blobs in a folder, which are read and verified as in Redis."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.serving.kafka.test_spool import full_disk
from tests.stores import KEYS, build_manifest, make_entry, take_lease
from wire.config import StoreConfig
from wire.errors import BadSignature, BlobCorrupt, NotFound, StoreUnavailable, WireError
from wire.files import lock_or_close
from wire.records import Arm, RolloutPlan, WeightManifest
from wire.store import Store
from wire.store.folder import FolderStore

OPEN = "folder"


@pytest.fixture
def open_copy(store_config: StoreConfig, tmp_path: Path) -> Iterator[Callable[..., FolderStore]]:
    """Opens the folder as one more process would, with changed settings."""
    opened: list[FolderStore] = []

    def open_one(*, task: str = "", **changes: object) -> FolderStore:
        opened.append(FolderStore(tmp_path / OPEN, replace(store_config, **changes), KEYS, task=task))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def published(store: Store) -> list[WeightManifest]:
    """Two versions of several chunks, of which the first is stable."""
    lease = take_lease(store)
    manifests: list[WeightManifest] = []
    for number in (1, 2):
        entries = (make_entry(store, b"shared" * 40_000, "a"), make_entry(store, b"%d" % number * 90_000, "b"))
        manifests.append(msgspec.structs.replace(build_manifest(store, number, epoch=lease.epoch), tensors=entries))
        store.versions.publish(manifests[-1], lease)
    store.plans.write(RolloutPlan(revision=1, salt="s", arms=(Arm(name="stable", version=1, share=1.0),)))
    return manifests


@pytest.fixture
def store_config(store_config: StoreConfig) -> StoreConfig:
    return replace(store_config, chunk_bytes=1 << 16)


def read(copy: Store, manifest: WeightManifest) -> list[bytes]:
    """Returns the blobs of a version, after its manifest was read. Raises WireError."""
    assert copy.versions.manifest(manifest.version) == manifest
    return [bytes(copy.blobs.get(each.digest, each.num_bytes)) for each in manifest.tensors]


def test_a_copy_is_read_without_the_server(
    store: Store, open_copy: Callable[..., FolderStore], published: list[WeightManifest], tmp_path: Path
) -> None:
    open_copy().save(published)
    copy = open_copy(url="redis://127.0.0.1:1/0")
    assert copy.plans.read() == store.plans.read()
    assert copy.versions.signatures([1, 2, 3]) == store.versions.signatures([1, 2, 3])
    assert [read(copy, each) for each in published] == [read(store, each) for each in published]
    with pytest.raises(StoreUnavailable):
        copy.save(published)
    with pytest.raises(NotImplementedError, match="GET"):
        copy.versions.current()


def test_only_what_was_saved_last_is_kept(
    open_copy: Callable[..., FolderStore], published: list[WeightManifest], tmp_path: Path
) -> None:
    copy = open_copy()
    copy.save(published)
    (tmp_path / OPEN / "plan.77.temporary").write_bytes(b"of a killed process")
    copy.save(published[1:])
    found = {path.name for path in (tmp_path / OPEN).iterdir()}
    assert found == {"lock", "plan", "manifest:2", *(f"blob:{each.digest}" for each in published[1].tensors)}
    copy.save(published)
    read(copy, published[0])


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: bytes([*data[:-9], 255, *data[-8:]]), lambda _: b""]
)
def test_a_damaged_copy_is_refused_and_the_next_process_writes_it_again(
    open_copy: Callable[..., FolderStore],
    published: list[WeightManifest],
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
) -> None:
    open_copy().save(published)
    for path in (tmp_path / OPEN).iterdir():
        path.write_bytes(damage(path.read_bytes()) if path.name != "lock" else b"")
    copy = open_copy()
    for manifest in published:
        with pytest.raises((NotFound, BadSignature)):
            copy.versions.manifest(manifest.version)
        for tensor in manifest.tensors:
            with pytest.raises((NotFound, BlobCorrupt)):
                copy.blobs.get(tensor.digest, tensor.num_bytes)
    open_copy().save(published)
    assert [len(read(open_copy(), each)) for each in published] == [2, 2]


@pytest.mark.parametrize("changes", [{"prefix": "of another service:"}, {"task": "fraud"}])
def test_a_copy_of_another_service_or_task_is_refused(
    open_copy: Callable[..., FolderStore], published: list[WeightManifest], changes: dict[str, str]
) -> None:
    open_copy().save(published)
    copy = open_copy(**changes)
    with pytest.raises(BadSignature):
        copy.plans.read()
    with pytest.raises(BadSignature):
        copy.versions.manifest(1)


def test_a_full_disk_leaves_the_copies_whole(
    open_copy: Callable[..., FolderStore], published: list[WeightManifest]
) -> None:
    copy = open_copy()
    copy.save(published[:1])
    with full_disk(1_000), pytest.raises(OSError, match="too large"):
        copy.save(published)
    read(open_copy(), published[0])
    copy.save(published)
    read(open_copy(), published[1])


def test_a_blob_that_is_damaged_in_the_store_is_not_taken_for_a_copy(
    store: Store, open_copy: Callable[..., FolderStore], published: list[WeightManifest], raw: object
) -> None:
    copy = open_copy()
    raw.hset(f"{copy._files.config.prefix}blob:{published[0].tensors[1].digest}", "1", b"x")  # type: ignore[attr-defined]
    with pytest.raises(WireError, match="chunk 1"):
        copy.save(published)


def test_one_process_copies_at_a_time(
    open_copy: Callable[..., FolderStore], published: list[WeightManifest], tmp_path: Path
) -> None:
    copy = open_copy()
    assert copy.save(published)
    with (tmp_path / OPEN / "lock").open("r+") as file:
        assert lock_or_close(file.fileno()) is not None
        assert not copy.save(published)
    assert copy.save(published)
