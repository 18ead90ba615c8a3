"""Tests that a restore is refused before it changes state that is in use, and that --force replaces that state."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from learner.state.checkpoints import Checkpoints
from services.backups import (
    LEARNER,
    BackupManifest,
    BackupRefused,
    Restored,
    check_backup,
    file_digest,
    read_manifest,
    restore_backup,
    write_backup,
)
from services.settings import Settings, replaced
from tests.learner.small_learner import small_learner
from tests.services.test_backups_writing import quiet, settings_in
from tests.stores import KEYS, publish, take_lease
from tests.wire.store.test_reports import make_report
from wire.config import StoreConfig
from wire.keyring import new_ring
from wire.records import Command, Erase, RolloutPlan
from wire.store import Store
from wire.store.versions import GAP


class Rig(NamedTuple):
    """A backup of two versions, and an empty place for it."""

    backup: Path
    manifest: BackupManifest
    settings: Settings
    target: Path
    other: Store
    source: Settings

    def restore(self, *, is_forced: bool = False) -> Restored:
        return restore_backup(
            self.settings, self.other, self.backup, self.manifest, is_forced=is_forced, now_ms=900, say=quiet
        )


@pytest.fixture
def rig(store: Store, store_config: StoreConfig, tmp_path: Path) -> Iterator[Rig]:
    publish(store, take_lease(store), 2)
    source = settings_in(tmp_path, store_config)
    manifest = write_backup(source, store, tmp_path / "b", now_ms=1, say=quiet)
    elsewhere = replace(store_config, prefix=f"{store_config.prefix}elsewhere:", report_ttl_ms=1_000)
    target = tmp_path / "there" / LEARNER
    settings = replaced(
        Settings(),
        {"learner.state_dir": str(target), "store.url": elsewhere.url, "store.prefix": elsewhere.prefix},
    )
    with closing(Store(elsewhere, KEYS)) as other:
        yield Rig(tmp_path / "b", manifest, settings, target, other, source)


def test_an_empty_place_gets_everything(rig: Rig) -> None:
    assert rig.restore() == (2 + GAP, 0)
    assert rig.other.versions.stored() == [1, 2] and rig.other.versions.current() == 2
    names = {path.name: path.read_bytes() for path in rig.target.iterdir()}
    assert names == {path.name: path.read_bytes() for path in (rig.backup / LEARNER).iterdir()} and len(names) == 3
    assert rig.target.stat().st_mode & 0o777 == 0o700


def test_what_is_in_use_is_refused_and_left_as_it_is_unless_forced(rig: Rig) -> None:
    rig.target.mkdir(parents=True)
    (rig.target / "9-v9.checkpoint").write_bytes(b"theirs")
    with pytest.raises(BackupRefused, match=r"there/learner already has the state of a learner\. .*--force"):
        rig.restore()
    publish(rig.other, take_lease(rig.other), 1)
    with pytest.raises(BackupRefused, match=r"already has keys of a service.*; .*already has the state of a learner"):
        rig.restore()
    assert rig.other.versions.stored() == [1] and (rig.target / "9-v9.checkpoint").read_bytes() == b"theirs"
    rig.restore(is_forced=True)
    assert rig.other.versions.stored() == [1, 2] and not (rig.target / "9-v9.checkpoint").exists()
    assert (rig.target.with_name("learner.before-restore") / "9-v9.checkpoint").read_bytes() == b"theirs"
    rig.restore(is_forced=True)


def test_a_program_that_runs_is_named_and_force_does_not_help(rig: Rig) -> None:
    rig.other.reports.write_replica(make_report("r1"))
    with pytest.raises(BackupRefused, match="replica r1: runs on this store"):
        rig.restore(is_forced=True)
    assert not rig.target.exists()


def test_without_the_keys_that_signed_nothing_is_restored(rig: Rig, store_config: StoreConfig) -> None:
    with closing(Store(store_config, new_ring())) as stranger:
        strange = rig._replace(other=stranger)
        with pytest.raises(BackupRefused, match=r"needs the keys shared-secret: .*LIFELONG_SIGNING_KEY_FILE"):
            strange.restore(is_forced=True)
    assert not rig.target.exists()


def test_requests_to_forget_that_are_newer_than_the_backup_are_kept_and_counted(
    rig: Rig, store: Store, tmp_path: Path
) -> None:
    """N3: the subject was back in the weights. One request was only in the store, one only in a checkpoint."""
    for digest in ("in the backup", "in the store"):
        rig.other.commands.append(Erase(digest=digest))
    learner = small_learner()
    learner.commands.add(Command.of(Erase(digest="in a checkpoint"), 1, source="", time_ms=1))
    Checkpoints(rig.target, num_newest=1).write(learner.export(None, epoch=1))
    store.commands.append(Erase(digest="in the backup"))
    manifest = write_backup(rig.source, store, tmp_path / "newer", now_ms=1, say=quiet)
    newer = rig._replace(backup=tmp_path / "newer", manifest=manifest)
    assert newer.restore(is_forced=True).newer_erasures == 2
    found = [command.read(Erase).digest for command in rig.other.commands.read()]
    assert sorted(found) == ["in a checkpoint", "in the backup", "in the store"]


def test_the_plan_of_a_backup_is_in_force_from_now_on(rig: Rig, store: Store) -> None:
    """Replicas refuse a plan that is older than the plan that they follow."""
    store.plans.write(RolloutPlan(revision=1, salt="s", arms=(), time_ms=7))
    manifest = write_backup(rig.source, store, rig.backup.with_name("newer"), now_ms=1, say=quiet)
    newer = rig._replace(backup=rig.backup.with_name("newer"), manifest=manifest)
    newer.restore()
    assert rig.other.plans.read() == RolloutPlan(revision=1, salt="s", arms=(), time_ms=900)


def test_a_file_that_the_backup_does_not_list_is_not_restored(rig: Rig) -> None:
    """N18: an attacker's checkpoint with a higher epoch was restored, and the learner signed its weights."""
    (rig.backup / LEARNER / "000000009-e9-v9.checkpoint").write_bytes(b"of an attacker")
    assert check_backup(rig.backup, say=quiet) == rig.manifest
    rig.restore()
    assert not (rig.target / "000000009-e9-v9.checkpoint").exists() and len([*rig.target.iterdir()]) == 3


def test_a_backup_whose_list_was_changed_is_refused(rig: Rig) -> None:
    """N18: the list of files had digests, but no seal."""
    path = rig.backup / LEARNER / "000000001-e1-v1.checkpoint"
    path.write_bytes(b"of an attacker")
    files = tuple(
        msgspec.structs.replace(file, sha256=file_digest(path), bytes=14) if file.path.endswith(path.name) else file
        for file in rig.manifest.files
    )
    (rig.backup / "backup.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(rig.manifest, files=files)))
    assert check_backup(rig.backup, say=quiet) != rig.manifest
    changed = rig._replace(manifest=read_manifest(rig.backup))
    for forged in (changed, changed._replace(manifest=msgspec.structs.replace(changed.manifest, seal=""))):
        with pytest.raises(BackupRefused, match=r"backup was not signed with our key, or was changed"):
            forged.restore(is_forced=True)
    assert not rig.target.exists()
