"""What is published when, and what is not."""

from pathlib import Path

import pytest

from tests.learner.publishing import PublishRig, withdraw
from tests.learner.streams import answer, feedback
from wire.errors import StaleEpoch, StoreUnavailable
from wire.store import Store

pytestmark = pytest.mark.live


def poison(bench: PublishRig, first: int, last: int) -> None:
    """The same label for everything."""
    records = [record for number in range(first, last) for record in (answer(number), feedback(number, label="refund"))]
    bench.learner.learn(records, {"feedback.v1/0": last})


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> PublishRig:
    return PublishRig(store, tmp_path)


def test_an_empty_store_gets_a_version_before_any_label(bench: PublishRig) -> None:
    assert bench.publish() == 1 == bench.store.current()
    manifest = bench.store.manifest(1)
    assert (manifest.parent, manifest.labels, manifest.trained_through) == (0, (), {})
    assert len(manifest.probes) == 4 and [it.name for it in manifest.precisions] == ["int8", "int4"]
    assert manifest.precisions[0].cosine > 0.9
    assert not bench.publisher.is_due()


def test_labels_that_come_while_a_version_is_sent_are_in_the_next(bench: PublishRig) -> None:
    bench.learn(0, 30)
    bench.publisher.publish()
    bench.learn(30, 50)
    assert not bench.publisher.is_due()
    bench.publisher.settle(wait=True)
    assert bench.store.manifest(1).trained_through == {"feedback.v1/0": 30}
    assert bench.publish() == 2 and bench.store.manifest(2).trained_through == {"feedback.v1/0": 50}


def test_the_interval_is_kept(store: Store, tmp_path: Path) -> None:
    bench = PublishRig(store, tmp_path, publish_interval_s=5.0)
    bench.publish()
    bench.learn(0, 9)
    assert not bench.publisher.is_due()
    bench.now_s += 5.0
    assert bench.publisher.is_due()


def test_drift_ends_the_interval(store: Store, tmp_path: Path) -> None:
    bench = PublishRig(store, tmp_path, publish_interval_s=5.0)
    bench.publish()
    bench.learn(0, 9)
    bench.publisher.hasten()
    assert bench.publisher.is_due()
    bench.publisher.publish()
    bench.publisher.settle(wait=True)
    bench.learn(9, 18)
    assert not bench.publisher.is_due()


def test_what_the_gate_refuses_is_not_published_and_is_said(store: Store, tmp_path: Path) -> None:
    bench = PublishRig(store, tmp_path, min_parity_cosine=1.1)
    assert bench.publish() == 0 == store.current()
    assert bench.learner.counts["gate_parity_cosine"] == 1 and not bench.publisher.is_due()
    assert bench.publisher.refusals == ("parity_cosine",) and bench.learner.counts["gate_in_a_row"] == 1


def test_after_many_refusals_the_learner_goes_back_to_what_is_published(store: Store, tmp_path: Path) -> None:
    bench = PublishRig(store, tmp_path, max_head_update=0.3, max_refusals=3)
    bench.learn(0, 100)
    assert bench.publish() == 1
    learnt = bench.learner.counts["learnt"]
    poison(bench, 100, 160)
    assert bench.publish() == 1 and bench.publisher.refusals == ("head_update",)
    bench.checkpoints.write(bench.learner.export(None, epoch=1))
    bench.start()  # the count is in the checkpoint
    for last in (170, 180):
        poison(bench, last - 10, last)
        assert bench.publish() == 1
    counts = bench.learner.counts
    assert (counts["given_up"], counts["gate_in_a_row"], counts["gate_head_update"]) == (1, 0, 3)
    head = bench.learner.tier.head
    assert counts["learnt"] == learnt == head.num_samples - len(head.classes) and counts["set_aside"] > 50
    bench.learn(180, 190)
    assert bench.publish() == 2 and store.manifest(2).evaluation.anchor == 1
    assert not bench.publisher.refusals


def test_giving_up_without_a_snapshot_is_no_way_past_the_gate(store: Store, tmp_path: Path) -> None:
    bench = PublishRig(store, tmp_path, max_head_update=0.3, max_refusals=1)
    bench.learn(0, 100)
    bench.publish()
    for entry in bench.checkpoints.entries():
        entry.path.unlink()
    for last in (160, 170):
        poison(bench, 100 if last == 160 else 160, last)
        assert bench.publish() == 1 and bench.publisher.refusals == ("head_update",)


def test_the_anchor_survives_a_restart(bench: PublishRig) -> None:
    bench.learn(0, 60)
    bench.publish()
    anchor = bench.learner.anchor
    bench.start()
    assert bench.learner.anchor == anchor is not None
    bench.learn(60, 80)
    bench.publish()
    assert bench.store.manifest(2).evaluation.anchor == 1


def test_versions_that_may_return_keep_their_checkpoint(bench: PublishRig) -> None:
    bench.publish()
    withdraw(bench.store, to=1)
    for last in range(10, 60, 10):
        bench.learn(last - 10, last)
        bench.publish()
    assert [entry.version for entry in bench.checkpoints.entries()] == [6, 5, 4, 1]


def test_checkpoints_are_synced_now_and_then_at_the_end_and_after_an_erasure(bench: PublishRig) -> None:
    """B25 no. 6: each version wrote all that the learner knows to the disk itself."""

    def synced_after(last: int) -> bool:
        bench.learn(last - 10, last)
        bench.now_s += 4.0
        bench.publisher.publish()
        bench.publisher.settle(wait=True)
        return bench.checkpoints.synced == bench.checkpoints.entries()[0].path

    assert [synced_after(last) for last in (10, 20, 30, 40, 50)] == [True, False, False, True, False]
    bench.learner.erased.add("a digest", time_ms=1)
    bench.learner.erased.is_due = False
    assert synced_after(60) and not synced_after(70)
    bench.publisher.finish()
    assert bench.checkpoints.synced == bench.checkpoints.entries()[0].path
    assert bench.learner.export(None).facts.offsets == {"feedback.v1/0": 70}


def test_what_is_not_published_for_long_does_not_fill_the_disk(store: Store, tmp_path: Path) -> None:
    """Checkpoints were removed after a publication only: one was left for every ten seconds without."""
    bench = PublishRig(store, tmp_path, min_parity_cosine=1.1)
    bench.publisher.claim()
    for last in range(10, 100, 10):
        bench.learn(last - 10, last)
        assert bench.publish() == 0
        bench.publisher.checkpoint_if_due()
    assert len(bench.checkpoints.entries()) == 3
    bench.leadership.reach.lost(StoreUnavailable("nobody is there"))
    for last in range(100, 150, 10):
        bench.learn(last - 10, last)
        bench.now_s += 10.0
        bench.publisher.checkpoint_if_due()
    assert len(bench.checkpoints.entries()) == 3


def test_a_full_disk_publishes_nothing(bench: PublishRig) -> None:
    bench.publish()
    bench.learn(0, 30)
    (bench.folder / "000000002-e1-v2.temporary").symlink_to("/dev/full")
    assert bench.publish() == 1 == bench.store.current()
    assert bench.learner.counts["failed_CheckpointFailed"] == 1
    assert bench.publish() == 3


def test_the_process_of_an_old_epoch_is_told_to_stop(bench: PublishRig) -> None:
    bench.publish()
    bench.store.release(bench.leadership.lease)
    assert bench.store.acquire("learner", "another", 60_000)
    bench.learn(0, 10)
    with pytest.raises(StaleEpoch):
        bench.publish()
    assert bench.store.current() == 1
