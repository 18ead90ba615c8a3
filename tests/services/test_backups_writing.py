"""Tests that a backup is whole or does not exist, while files and versions are written and removed."""

import threading
from pathlib import Path

import pytest

from services.backups import BLOBS, KEYS, LEARNER, BackupRefused, check_backup, copy_learner, write_backup
from services.settings import Settings, replaced
from tests.stores import KEYS as RING
from tests.stores import build_manifest, publish, take_lease
from wire.config import StoreConfig
from wire.errors import BlobCorrupt
from wire.records import RolloutPlan
from wire.store import Store


def quiet(_: str) -> None:
    """Says nothing."""


def settings_in(folder: Path, config: StoreConfig) -> Settings:
    """Returns settings whose learner's folder has files of each kind, of which backups leave out two."""
    (folder / LEARNER).mkdir(parents=True)
    for name in ("000000001-e1-v1.checkpoint", "000000001-e1-v1.journal", "abc.encoder", "base.cache", "x.temporary"):
        (folder / LEARNER / name).write_bytes(name.encode())
    changes = {"learner.state_dir": str(folder / LEARNER), "store.url": config.url, "store.prefix": config.prefix}
    return replaced(Settings(), changes)


def test_a_backup_has_what_is_known_and_not_what_is_made_again(
    store: Store, store_config: StoreConfig, tmp_path: Path
) -> None:
    manifests = publish(store, take_lease(store), 3)
    settings = settings_in(tmp_path, store_config)
    made = write_backup(settings, store, tmp_path / "b", now_ms=5, say=quiet)
    assert check_backup(tmp_path / "b", say=quiet) == made
    assert (made.current, made.versions, made.created_ms, made.signers) == (3, (1, 2, 3), 5, ("shared-secret",))
    blobs = {f"{BLOBS}/{manifest.tensors[0].digest}" for manifest in manifests}
    learner = {f"{LEARNER}/{name}" for name in ("000000001-e1-v1.checkpoint", "000000001-e1-v1.journal", "abc.encoder")}
    assert {file.path for file in made.files} == {KEYS, *blobs, *learner}
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700
    key = RING.keys[0].value
    assert not any(key in path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file())


def test_what_is_there_is_never_written_over(store: Store, store_config: StoreConfig, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(BackupRefused, match="exists already"):
        write_backup(settings_in(tmp_path, store_config), store, tmp_path / "b", now_ms=1, say=quiet)
    assert not [*(tmp_path / "b").iterdir()]


def test_a_backup_without_checkpoints_is_refused_and_leaves_nothing(
    store: Store, store_config: StoreConfig, tmp_path: Path
) -> None:
    publish(store, take_lease(store), 1)
    settings = replaced(settings_in(tmp_path, store_config), {"learner.state_dir": str(tmp_path / "elsewhere")})
    with pytest.raises(BackupRefused, match=r"holds no checkpoint.*learner\.state_dir"):
        write_backup(settings, store, tmp_path / "b", now_ms=1, say=quiet)
    assert not (tmp_path / "b").exists() and not (tmp_path / "b.partial").exists()


def test_a_damaged_blob_ends_it_by_name(store: Store, store_config: StoreConfig, tmp_path: Path, raw: object) -> None:
    (manifest,) = publish(store, take_lease(store), 1)
    digest = manifest.tensors[0].digest
    raw.hset(f"{store_config.prefix}blob:{digest}", 0, b"x" * manifest.tensors[0].num_bytes)  # type: ignore[attr-defined]
    with pytest.raises(BlobCorrupt, match=digest):
        write_backup(settings_in(tmp_path, store_config), store, tmp_path / "b", now_ms=1, say=quiet)
    assert not (tmp_path / "b").exists()


def test_versions_that_come_and_go_meanwhile_leave_a_whole_backup(
    store: Store, store_config: StoreConfig, tmp_path: Path
) -> None:
    lease = take_lease(store)
    publish(store, lease, 3)
    store.plans.write(RolloutPlan(revision=1, salt="", arms=()))
    settings = settings_in(tmp_path, store_config)
    is_done = threading.Event()

    def come_and_go() -> None:
        number = 3
        while not is_done.is_set():
            number += 1
            store.versions.publish(build_manifest(store, number, epoch=lease.epoch), lease)
            store.collector.collect([number], grace_ms=0)

    publisher = threading.Thread(target=come_and_go)
    publisher.start()
    try:
        for attempt in range(5):
            made = write_backup(settings, store, tmp_path / f"b{attempt}", now_ms=1, say=quiet)
            assert check_backup(tmp_path / f"b{attempt}", say=quiet) == made
            assert made.current in made.versions
            assert len([*(tmp_path / f"b{attempt}" / BLOBS).iterdir()]) == len(made.versions)
    finally:
        is_done.set()
        publisher.join()


def test_a_file_that_is_removed_meanwhile_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "1-v1.checkpoint").write_bytes(b"whole")
    # The name is listed, but the file cannot be opened.
    (tmp_path / "from" / "2-v2.checkpoint").symlink_to(tmp_path / "gone")
    assert copy_learner(tmp_path / "from", tmp_path / "to") == ["1-v1.checkpoint"]
    assert (tmp_path / "to" / "1-v1.checkpoint").read_bytes() == b"whole"
