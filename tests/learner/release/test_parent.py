"""Tests of the parent version after a restart, a rollback, a lost reply or a lost store."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch

from learner.fast.solver import ARITHMETIC
from learner.leadership import Leadership
from tests.learner.publish_rig import PublishRig, wipe, withdraw
from wire.errors import StaleEpoch
from wire.store import GAP, Store

pytestmark = pytest.mark.live


def test_a_withdrawn_version_takes_the_learner_back(rig: PublishRig) -> None:
    rig.publish()
    rig.learn(0, 30)
    rig.publish()
    learnt = rig.learner.counts["learnt"]
    for last in (60, 90):
        rig.learn(last - 30, last)
        rig.publish()
    withdraw(rig.store, to=2)
    rig.learn(90, 100)
    assert rig.publish() == 2
    assert rig.learner.counts["learnt"] == learnt and rig.learner.offsets == {"feedback.v1/0": 100}
    rig.learn(100, 120)
    assert rig.publish() == 5
    manifest = rig.store.versions.manifest(5)
    assert manifest.parent == 2 and manifest.evaluation.parent_accuracy > 0
    counts = rig.learner.counts
    assert rig.learner.join.counts["matched"] == 120
    assert counts["learnt"] + counts["holdout"] + counts["set_aside"] == 120


def test_a_withdrawal_after_a_restart_finds_a_version_without_a_checkpoint_of_its_own(rig: PublishRig) -> None:
    sums: list[torch.Tensor] = []
    for last in (20, 40, 60):
        rig.learn(last - 20, last)
        rig.publish()
        sums.append(rig.learner.fast_head.export()["gram"])
    withdraw(rig.store, to=2)
    rig.start()
    # From the offsets of the checkpoint, which is of version 1.
    rig.learn(20, 70)
    assert rig.publish() == 2
    assert torch.equal(rig.learner.fast_head.export()["gram"], sums[1])
    assert rig.learner.offsets == {"feedback.v1/0": 70}
    rig.learn(70, 90)
    assert rig.publish() == 4 + GAP and rig.store.versions.manifest(4 + GAP).parent == 2
    # A journal cannot express that labels were set aside, so version 4 + GAP has a checkpoint.
    assert rig.checkpoints.entries()[0].version == 4 + GAP


def test_a_withdrawal_that_the_learner_has_followed_sets_nothing_aside_after_a_restart(rig: PublishRig) -> None:
    for last in (20, 40, 60):
        rig.learn(last - 20, last)
        rig.publish()
    withdraw(rig.store, to=2)
    rig.learn(60, 70)
    assert rig.publish() == 2
    set_aside = rig.learner.counts["set_aside"]
    rig.learn(70, 100)
    rig.publisher.checkpoint()
    rig.start()
    found = rig.store.versions.manifest(rig.publish())
    assert found.version == 4 + GAP and found.trained_through == {"feedback.v1/0": 100}
    assert rig.learner.counts["set_aside"] == set_aside


def test_the_parent_of_a_program_that_solved_otherwise_and_the_anchor_are_made_again(
    rig: PublishRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade the gate compares versions of the same method: a change of method is no reason to refuse."""
    with monkeypatch.context() as older:
        older.setattr("learner.fast.solver.ARITHMETIC", "1, torch")
        rig.start()
        rig.learn(0, 60)
        rig.publish()
    rig.start()
    parent = rig.publisher.last
    assert parent is not None and parent.solution.arithmetic == ARITHMETIC
    assert rig.learner.knowledge.anchor == msgspec.structs.replace(parent.measured.record, version=1)
    rig.learn(60, 80)
    found = rig.store.versions.manifest(rig.publish())
    assert (found.version, found.parent, found.evaluation.anchor) == (2 + GAP, 1, 1)
    assert found.evaluation.parent_accuracy > 0


def test_without_the_snapshot_the_learner_says_so_and_goes_on(rig: PublishRig) -> None:
    for last in (20, 40):
        rig.learn(last - 20, last)
        rig.publish()
    for path in rig.folder.glob("*-v1.checkpoint"):
        path.unlink()
    withdraw(rig.store, to=1)
    rig.learn(40, 60)
    assert rig.publish() == 1 and rig.learner.counts["snapshot_missing"] == 1
    rig.learn(60, 80)
    assert rig.publish() == 3 and rig.store.versions.manifest(3).parent == 1


def test_a_checkpoint_whose_version_was_published_is_not_published_again(rig: PublishRig) -> None:
    rig.learn(0, 30)
    rig.publish()
    before = rig.learner.export(None)
    rig.start()
    assert rig.learner.version == 1 and not rig.publisher.is_due()
    facts = rig.learner.export(None).facts
    assert facts.last_version == 1 + GAP
    assert msgspec.structs.replace(facts, last_version=1) == before.facts
    assert rig.publisher.last is not None


def test_a_restart_without_news_publishes_nothing(rig: PublishRig) -> None:
    rig.learn(0, 30)
    rig.publish()
    rig.learner.learn_many([], {"feedback.v1/0": 31})
    rig.publisher.finish()
    rig.start()
    assert rig.learner.version == 1 and not rig.publisher.is_due()


def test_a_pending_version_that_the_store_lacks_is_published_again(rig: PublishRig) -> None:
    rig.publish()
    rig.learn(0, 30)
    manifest = msgspec.structs.replace(rig.store.versions.manifest(1), version=2, parent=1, tensors=())
    rig.learner.last_version = 2
    rig.checkpoints.write(rig.learner.export(manifest, epoch=1))
    rig.start()
    found = rig.store.versions.manifest(rig.publish())
    assert found.version == 3 + GAP and found.trained_through == {"feedback.v1/0": 30}


def test_a_checkpoint_older_than_the_store_is_read_on_first(rig: PublishRig) -> None:
    for last in (20, 40):
        rig.learn(last - 20, last)
        # The second version has no checkpoint of its own.
        rig.publish()
    rig.start()
    assert rig.learner.version == 2 and rig.learner.offsets == {"feedback.v1/0": 20}
    rig.learn(20, 30)
    assert not rig.publisher.is_due()
    rig.learn(30, 60)
    assert rig.publish() == 3 + GAP and rig.store.versions.manifest(3 + GAP).parent == 2


def test_a_second_kill_while_reading_on_publishes_no_child_that_knows_less(rig: PublishRig) -> None:
    """F06: the offsets to reach before publishing were not in the checkpoint."""
    for last in (20, 40):
        rig.learn(last - 20, last)
        # The second version has no checkpoint of its own.
        rig.publish()
    rig.start()
    rig.learn(20, 30)
    # A checkpoint before the learner has reached the offsets.
    rig.publisher.checkpoint()
    rig.start()
    assert rig.learner.version == 2 and rig.learner.offsets == {"feedback.v1/0": 30}
    rig.learn(30, 35)
    assert not rig.publisher.is_due()
    rig.learn(35, 60)
    assert rig.publish() == 3 + 2 * GAP and rig.store.versions.manifest(3 + 2 * GAP).parent == 2


def test_a_state_that_was_never_served_is_not_taken_for_a_version(rig: PublishRig) -> None:
    """B20: a leader that slept wrote its state under the number of a version that its successor had published."""
    for last in (20, 40, 60):
        rig.learn(last - 20, last)
        rig.publish()
    served = rig.store.versions.manifest(2)
    (served_in,) = rig.checkpoints.entries()
    served_in.path.unlink()
    never_served = msgspec.structs.replace(served, epoch=served.epoch + 1, trained_through={"feedback.v1/0": 1})
    rig.checkpoints.write(rig.learner.export(never_served, epoch=never_served.epoch))
    withdraw(rig.store, to=2)
    rig.learn(60, 70)
    assert rig.publish() == 2 and rig.learner.counts["snapshot_missing"] == 1


def test_a_current_version_without_a_manifest_is_not_waited_for(
    rig: PublishRig, raw: Any, key: Callable[..., str]
) -> None:
    rig.learn(0, 20)
    rig.publish()
    raw.set(key("current"), 7)
    rig.learn(20, 30)
    assert rig.publish() == 7 and rig.learner.counts["manifest_missing"] == 1
    assert rig.publish() == 8 and rig.store.versions.manifest(8).parent == 7


def test_records_that_the_bus_has_lost_are_not_waited_for(rig: PublishRig) -> None:
    for last in (20, 40):
        rig.learn(last - 20, last)
        # The second version has no checkpoint of its own.
        rig.publish()
    rig.start()
    rig.learner.forget_read_first()
    rig.learn(20, 30)
    assert rig.publish() == 3 + GAP


def test_a_wiped_store_gets_what_the_learner_knows(rig: PublishRig) -> None:
    rig.learn(0, 30)
    rig.publish()
    wipe(rig.store)
    rig.start()
    rig.learn(30, 40)
    assert (rig.publish(), rig.store.versions.current()) == (2 + GAP, 2 + GAP)
    assert rig.store.versions.manifest(rig.store.versions.current()).labels == rig.learner.fast_head.ridge.classes


def test_no_number_names_two_versions_after_a_power_cut(rig: PublishRig, raw: Any, key: Callable[..., str]) -> None:
    """N9: the store has lost its last second, and the journal its end. Only replicas and answers have version 2."""
    rig.learn(0, 20)
    rig.publish()
    on_disk = {name: raw.dump(name) for name in raw.keys(key("*"))}
    files = {path: path.read_bytes() for path in rig.folder.iterdir()}
    rig.learn(20, 40)
    assert rig.publish() == 2
    wipe(rig.store)
    for name, value in on_disk.items():
        raw.restore(name, 0, value)
    for path in rig.folder.iterdir():
        path.unlink() if path not in files else path.write_bytes(files[path])
    rig.start()
    rig.learn(20, 50)
    assert rig.publish() == 2 + GAP and rig.store.versions.stored() == [1, 2 + GAP]


def test_no_number_names_versions_of_two_leaders_of_which_the_store_forgot_both(
    rig: PublishRig, raw: Any, key: Callable[..., str]
) -> None:
    """N9: power is cut right after each of two leaders began. The disk has the first checkpoint of each."""
    rig.learn(0, 20)
    rig.publish()
    on_disk = {name: raw.dump(name) for name in raw.keys(key("*"))}
    numbers: set[int] = set()
    for _ in range(2):
        rig.start()
        rig.publisher.checkpoint()
        first = {path: path.read_bytes() for path in rig.folder.iterdir()}
        rig.learn(20, 40)
        numbers.add(rig.publish())
        wipe(rig.store)
        for name, value in on_disk.items():
            raw.restore(name, 0, value)
        for path in rig.folder.iterdir():
            path.unlink() if path not in first else path.write_bytes(first[path])
    assert numbers == {2 + GAP, 2 + 2 * GAP}


def test_a_store_that_is_wiped_under_a_leader_gets_it_without_a_restart_and_without_a_label(rig: PublishRig) -> None:
    rig.learn(0, 30)
    rig.publish()
    wipe(rig.store)
    rig.leadership.confirm()
    # This attempt finds that the store has no version.
    assert rig.publish() == 0
    assert (rig.publish(), rig.store.versions.current()) == (2, 2)
    assert rig.store.versions.manifest(2).epoch == 2
    assert rig.leadership.lease.epoch == 2
    assert rig.checkpoints.highest_epoch() == 2
    assert not rig.publisher.is_due()


def test_a_publication_that_the_wiped_store_refuses_is_made_again(rig: PublishRig) -> None:
    rig.learn(0, 30)
    wipe(rig.store)
    assert rig.publish() == 0 and rig.learner.counts["publications_failed"] == 1
    assert (rig.publish(), rig.store.versions.current()) == (2, 2)


def test_a_publication_under_a_lease_that_another_has_ends_it(rig: PublishRig, open_store: Callable[[], Store]) -> None:
    rig.learn(0, 30)
    wipe(rig.store)
    assert Leadership(open_store().leases, "learner", "another", ttl_ms=60_000).acquire()
    with pytest.raises(StaleEpoch):
        rig.publish()
