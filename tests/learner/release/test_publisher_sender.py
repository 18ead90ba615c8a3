"""Tests that a version is served before it is durable, and published again if Redis loses it in a power cut."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from learner.release.publisher import Durability
from services.local.redis import start_redis
from tests.learner.publish_rig import PublishRig
from tests.stores import KEYS, publish, take_lease
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.errors import StoreUnavailable
from wire.store import Store

pytestmark = pytest.mark.live


class Machine:
    """A Redis on a machine whose power may fail: then its file has the content of the last sync."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "redis"
        self._disk = folder / "disk"
        self.server = start_redis(self._folder)
        self.store = Store(StoreConfig(url=self.server.url), KEYS)

    def note_disk(self) -> None:
        """Syncs: the disk has everything that was written so far."""
        self.store.versions.sync()
        copy(self._folder, self._disk)

    def fail(self) -> None:
        """Kills the server, as `kill -9` does, and starts it again with the content of the disk."""
        self.server.process.kill()
        self.server.process.wait()
        for path in self._folder.rglob("appendonly*"):
            if path.is_file():
                path.unlink()
        copy(self._disk, self._folder)
        self.server.start_again()
        eventually(self._answers)

    def _answers(self) -> bool:
        with suppress(StoreUnavailable):
            return self.store.versions.current() >= 0
        return False


def copy(folder: Path, to: Path) -> None:
    """Copies the append-only file: one file, or since Redis 7 several in a folder."""
    for path in folder.rglob("appendonly*"):
        if path.is_file():
            target = to / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    it = Machine(tmp_path)
    yield it
    it.store.close()
    it.server.stop()


def test_a_version_is_durable_when_the_disk_has_it(machine: Machine) -> None:
    publish(machine.store, take_lease(machine.store), 2)
    durability = Durability(machine.store.versions)
    durability.expect(2)
    assert durability.version == 0 and not durability.is_lost(wait=True)
    assert durability.version == 2 and durability.ms > 0


def test_a_version_that_was_lost_is_said_once(machine: Machine) -> None:
    lease = take_lease(machine.store)
    machine.note_disk()
    publish(machine.store, lease, 1)
    durability = Durability(machine.store.versions)
    durability.expect(1)
    machine.fail()
    assert durability.is_lost(wait=True) and not durability.is_lost(wait=True)
    assert durability.version == 0


def test_a_learner_publishes_again_what_the_store_has_lost_without_a_label(machine: Machine, tmp_path: Path) -> None:
    rig = PublishRig(machine.store, tmp_path / "state")
    rig.learn(0, 30)
    assert rig.publish() == 1
    machine.note_disk()
    rig.learn(30, 60)
    assert rig.publish() == 2
    learnt = rig.learner.counts["learnt"]
    machine.fail()

    def is_due_again() -> bool:
        rig.publisher.complete()
        rig.now_s += 1.0
        return rig.publisher.is_due()

    eventually(is_due_again)
    # The learner continues from the version that the store still has.
    assert rig.publish() == 1
    assert rig.publish() == 3 and rig.learner.counts["learnt"] == learnt
    manifest = machine.store.versions.manifest(3)
    assert manifest.parent == 1 and manifest.trained_through == {"feedback.v1/0": 60}
    assert not rig.learner.counts["set_aside"]
