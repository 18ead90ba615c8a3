"""Tests of which versions are published, and when."""

import os
from pathlib import Path

import pytest

from tests.learner.publish_rig import PublishRig, withdraw
from tests.learner.small_learner import hold
from tests.learner.streams import labelled_events
from wire.errors import StaleEpoch, StoreUnavailable
from wire.files import DRAFT_SUFFIX
from wire.records import Erase
from wire.store import GAP, Store

pytestmark = pytest.mark.live


def poison(rig: PublishRig, first: int, last: int) -> None:
    """Learns the same label for all events."""
    rig.learner.learn_many(labelled_events(range(first, last), label="refund"), {"feedback.v1/0": last})


def test_an_empty_store_gets_a_version_before_any_label(rig: PublishRig) -> None:
    assert (rig.publish(), rig.store.versions.current()) == (1, 1)
    manifest = rig.store.versions.manifest(1)
    assert (manifest.parent, manifest.labels, manifest.trained_through) == (0, (), {})
    assert len(manifest.probes) == 4 and [evaluation.name for evaluation in manifest.precisions] == ["int8", "int4"]
    assert manifest.precisions[0].cosine > 0.9
    assert not rig.publisher.is_due()


def test_labels_that_come_while_a_version_is_sent_are_in_the_next(rig: PublishRig) -> None:
    rig.learn(0, 30)
    rig.publisher.publish()
    rig.learn(30, 50)
    assert not rig.publisher.is_due()
    rig.publisher.complete(wait=True)
    assert rig.store.versions.manifest(1).trained_through == {"feedback.v1/0": 30}
    assert rig.publish() == 2 and rig.store.versions.manifest(2).trained_through == {"feedback.v1/0": 50}


def test_the_interval_is_kept(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, publish_interval_s=5.0)
    rig.publish()
    rig.learn(0, 9)
    assert not rig.publisher.is_due()
    rig.now_s += 5.0
    assert rig.publisher.is_due()


def test_labels_are_learnt_between_versions_that_take_long(rig: PublishRig) -> None:
    rig.attempt_s = 3.0
    rig.publish()
    rig.learn(0, 9)
    rig.publisher.backoff.end_interval()
    rig.now_s += 5.9
    assert not rig.publisher.is_due()
    rig.now_s += 0.1
    assert rig.publisher.is_due()


def test_drift_ends_the_interval(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, publish_interval_s=5.0)
    rig.publish()
    rig.learn(0, 9)
    rig.publisher.backoff.end_interval()
    assert rig.publisher.is_due()
    rig.publisher.publish()
    rig.publisher.complete(wait=True)
    rig.learn(9, 18)
    assert not rig.publisher.is_due()


def test_what_the_gate_refuses_is_not_published_and_is_said(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, min_parity_cosine=1.1)
    assert (rig.publish(), store.versions.current()) == (0, 0)
    assert rig.learner.counts["gate_parity_cosine"] == 1 and not rig.publisher.is_due()
    assert rig.publisher.refusals == ("parity_cosine",) and rig.learner.progress.num_refused == 1


def test_after_many_refusals_the_learner_goes_back_to_what_is_published(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, max_head_update=0.3, max_refusals=3)
    rig.learn(0, 100)
    assert rig.publish() == 1
    learnt = rig.learner.counts["learnt"]
    poison(rig, 100, 160)
    assert rig.publish() == 1 and rig.publisher.refusals == ("head_update",)
    rig.checkpoints.write(rig.learner.export(None, epoch=1))
    # The checkpoint has the number of refusals in a row.
    rig.start()
    for last in (170, 180):
        poison(rig, last - 10, last)
        assert rig.publish() == 1
    counts = rig.learner.counts
    assert (counts["given_up"], rig.learner.progress.num_refused, counts["gate_head_update"]) == (1, 0, 3)
    head = rig.learner.fast_head.ridge
    assert counts["learnt"] == learnt
    assert head.num_samples == learnt + len(head.classes)
    assert counts["set_aside"] > 50
    rig.learn(180, 190)
    assert rig.publish() == 2 + GAP and store.versions.manifest(2 + GAP).evaluation.anchor == 1
    assert not rig.publisher.refusals


def test_giving_up_without_a_snapshot_is_no_way_past_the_gate(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, max_head_update=0.3, max_refusals=1)
    rig.learn(0, 100)
    rig.publish()
    for entry in rig.checkpoints.entries():
        entry.path.unlink()
    for last in (160, 170):
        poison(rig, 100 if last == 160 else 160, last)
        assert rig.publish() == 1 and rig.publisher.refusals == ("head_update",)


def test_the_anchor_survives_a_restart(rig: PublishRig) -> None:
    rig.learn(0, 60)
    rig.publish()
    anchor = rig.learner.knowledge.anchor
    rig.start()
    assert anchor is not None
    assert rig.learner.knowledge.anchor == anchor
    rig.learn(60, 80)
    assert rig.store.versions.manifest(rig.publish()).evaluation.anchor == 1


def test_versions_that_may_return_keep_their_checkpoint(rig: PublishRig) -> None:
    rig.publish()
    withdraw(rig.store, to=1)
    for last in range(10, 60, 10):
        rig.learn(last - 10, last)
        rig.publish()
        rig.publisher.checkpoint_if_due(wait=True)
    rig.publisher.writer.prune()
    files = [entry.path for entry in rig.checkpoints.entries()]
    states = [rig.checkpoints.find_version(rig.store.versions.manifest(version)) for version in (1, 3, 6)]
    assert [state is None for state in states] == [False, True, False]
    assert len(files) == 4 and len(list(rig.folder.glob("*.journal"))) == 4


def test_checkpoints_are_synced_now_and_then_at_the_end_and_after_an_erasure(rig: PublishRig) -> None:
    """B25 no. 6: the whole state was synced to the disk for each version."""

    def synced_after(last: int) -> bool:
        rig.learn(last - 10, last)
        rig.now_s += 4.0
        rig.publisher.checkpoint()
        return rig.checkpoints.synced == rig.checkpoints.entries()[0].path

    assert [synced_after(last) for last in (10, 20, 30, 40, 50)] == [True, False, False, True, False]
    hold(rig.learner, Erase(digest="a digest"))
    assert synced_after(60) and not synced_after(70)
    rig.publisher.finish()
    assert rig.checkpoints.synced == rig.checkpoints.entries()[0].path
    assert rig.learner.export(None).facts.offsets == {"feedback.v1/0": 70}


def test_what_is_not_published_for_long_does_not_fill_the_disk(store: Store, tmp_path: Path) -> None:
    """Checkpoints were pruned only after a publication: without one, a file was left every ten seconds."""
    rig = PublishRig(store, tmp_path, min_parity_cosine=1.1)
    rig.publisher.checkpoint()
    for last in range(10, 100, 10):
        rig.learn(last - 10, last)
        assert rig.publish() == 0
        rig.publisher.checkpoint_if_due(wait=True)
    assert len(rig.checkpoints.entries()) == 3
    rig.leadership.breaker.trip(StoreUnavailable("nobody is there"))
    for last in range(100, 150, 10):
        rig.learn(last - 10, last)
        rig.now_s += 10.0
        rig.publisher.checkpoint_if_due(wait=True)
    assert len(rig.checkpoints.entries()) == 3


def test_a_full_disk_publishes_nothing(rig: PublishRig) -> None:
    (rig.folder / f"000000001-e1-v1.checkpoint.{os.getpid()}{DRAFT_SUFFIX}").symlink_to("/dev/full")
    assert (rig.publish(), rig.store.versions.current()) == (0, 0)
    assert rig.learner.counts["checkpoints_failed"] == 1
    assert rig.publish() == 2


def test_a_journal_on_a_full_disk_publishes_nothing_and_a_checkpoint_follows(rig: PublishRig) -> None:
    (rig.folder / "000000001-e1-v1.journal").symlink_to("/dev/full")
    assert rig.publish() == 1
    rig.learn(0, 30)
    assert rig.publish() == 1 and rig.learner.counts["checkpoints_failed"] == 1
    assert rig.publish() == 3 and rig.checkpoints.entries()[0].version == 3


def test_a_checkpoint_that_is_written_beside_publications_leads_to_all_versions(rig: PublishRig) -> None:
    rig.publish()
    rig.learn(0, 30)
    rig.now_s += 10.0
    rig.publisher.checkpoint_if_due()  # begins
    rig.now_s -= 10.0
    rig.learn(30, 40)
    assert rig.publish() == 2
    rig.now_s -= 10.0
    rig.publisher.checkpoint_if_due(wait=True)
    rig.learn(40, 50)
    assert rig.publish() == 3
    for version, last in ((2, 40), (3, 50)):
        state = rig.checkpoints.find_version(rig.store.versions.manifest(version))
        assert state is not None and state.snapshot.facts.offsets == {"feedback.v1/0": 30}
        assert len(state.samples) == last - 30


def test_the_process_of_an_old_epoch_is_told_to_stop(rig: PublishRig) -> None:
    rig.publish()
    rig.store.leases.release(rig.leadership.lease)
    assert rig.store.leases.acquire("learner", "another", 60_000)
    rig.learn(0, 10)
    with pytest.raises(StaleEpoch):
        rig.publish()
    assert rig.store.versions.current() == 1
