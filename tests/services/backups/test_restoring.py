"""Tests the restore: what is in use is refused before anything changes, and a forced one takes its place."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from services.backups.format import LEARNER, BackupManifest, BackupRefused
from services.backups.restoring import restore_backup
from services.backups.writing import write_backup
from services.settings import Settings, replaced
from tests.services.backups.test_writing import quiet, settings_in
from tests.stores import KEYS, lease_of, publish
from tests.wire.store.test_reports import report_of
from wire.config import StoreConfig
from wire.keyring import new_ring
from wire.store import Store
from wire.store.dump import GAP


class Rig(NamedTuple):
    """A backup of two versions, and an empty place for it."""

    backup: Path
    manifest: BackupManifest
    settings: Settings
    target: Path
    other: Store

    def restore(self, *, is_forced: bool = False) -> int:
        return restore_backup(self.settings, self.other, self.backup, self.manifest, is_forced=is_forced, say=quiet)


@pytest.fixture
def rig(store: Store, store_config: StoreConfig, tmp_path: Path) -> Iterator[Rig]:
    publish(store, lease_of(store), 2)
    manifest = write_backup(settings_in(tmp_path, store_config), store, tmp_path / "b", now_ms=1, say=quiet)
    elsewhere = replace(store_config, prefix=f"{store_config.prefix}elsewhere:", report_ttl_ms=1_000)
    target = tmp_path / "there" / LEARNER
    settings = replaced(
        Settings(),
        {"learner.state_dir": str(target), "store.url": elsewhere.url, "store.prefix": elsewhere.prefix},
    )
    with closing(Store(elsewhere, KEYS)) as other:
        yield Rig(tmp_path / "b", manifest, settings, target, other)


def test_an_empty_place_gets_everything(rig: Rig) -> None:
    assert rig.restore() == 2 + GAP
    assert rig.other.versions.stored() == [1, 2] and rig.other.versions.current() == 2
    names = {path.name: path.read_bytes() for path in rig.target.iterdir()}
    assert names == {path.name: path.read_bytes() for path in (rig.backup / LEARNER).iterdir()} and len(names) == 3
    assert rig.target.stat().st_mode & 0o777 == 0o700


def test_what_is_in_use_is_refused_and_left_as_it_is_unless_forced(rig: Rig) -> None:
    rig.target.mkdir(parents=True)
    (rig.target / "9-v9.checkpoint").write_bytes(b"theirs")
    with pytest.raises(BackupRefused, match=r"there/learner already has what a learner knows\. .*--force"):
        rig.restore()
    publish(rig.other, lease_of(rig.other), 1)
    with pytest.raises(BackupRefused, match=r"the store already has keys of a service.*; .*already has what a learner"):
        rig.restore()
    assert rig.other.versions.stored() == [1] and (rig.target / "9-v9.checkpoint").read_bytes() == b"theirs"
    rig.restore(is_forced=True)
    assert rig.other.versions.stored() == [1, 2] and not (rig.target / "9-v9.checkpoint").exists()
    assert (rig.target.with_name("learner.before-restore") / "9-v9.checkpoint").read_bytes() == b"theirs"
    rig.restore(is_forced=True)


def test_a_program_that_runs_is_named_and_force_does_not_help(rig: Rig) -> None:
    rig.other.reports.write_replica(report_of("r1"))
    with pytest.raises(BackupRefused, match="replica r1: runs on this store"):
        rig.restore(is_forced=True)
    assert not rig.target.exists()


def test_without_the_keys_that_signed_nothing_is_restored(rig: Rig, store_config: StoreConfig) -> None:
    with closing(Store(store_config, new_ring())) as stranger:
        strange = rig._replace(other=stranger)
        with pytest.raises(BackupRefused, match=r"needs the keys shared-secret: .*LIFELONG_SIGNING_KEY_FILE"):
            strange.restore(is_forced=True)
    assert not rig.target.exists()
