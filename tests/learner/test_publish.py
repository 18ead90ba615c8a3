from pathlib import Path

import msgspec
import pytest

from learner.checkpoint import Checkpoints
from learner.publish import Publisher
from tests.learner.small import small_config, small_learner, tokenizer
from tests.learner.streams import stream
from wire.errors import StaleEpoch
from wire.records import Arm, RolloutPlan
from wire.store import Lease, Store

pytestmark = pytest.mark.live


class Bench:
    """A learner that publishes into a store, with a clock that stands still unless it is moved."""

    def __init__(self, store: Store, folder: Path, **changed: float | str) -> None:
        self.config = small_config(trainable_layers=0, **changed)
        self.store, self.folder, self.now_s = store, folder, 0.0
        lease = store.acquire("learner", "test", 60_000)
        assert lease is not None
        self.start(lease)

    def start(self, lease: Lease) -> None:
        """As a new process would: from the newest checkpoint."""
        self.checkpoints = Checkpoints(self.folder, num_newest=3)
        self.learner = small_learner(trainable_layers=0)
        self.publisher = Publisher(
            self.learner,
            self.store,
            self.checkpoints,
            lease,
            config=self.config,
            now_ms=lambda: 1,
            clock_s=lambda: self.now_s,
        )
        snapshot = self.checkpoints.newest()
        if snapshot is not None:
            self.learner.restore(snapshot)
        self.publisher.recover(snapshot.facts.pending if snapshot else None, {})

    def learn(self, first: int, last: int) -> None:
        self.learner.learn(stream(first, last), {"feedback.v1/0": last})

    def publish(self) -> int:
        self.now_s += 10.0
        assert self.publisher.is_due()
        self.publisher.publish()
        self.publisher.settle(wait=True)
        return self.learner.version


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Bench:
    return Bench(store, tmp_path)


def test_an_empty_store_gets_a_version_before_any_label(bench: Bench) -> None:
    assert bench.publish() == 1 == bench.store.current()
    manifest = bench.store.manifest(1)
    assert (manifest.parent, manifest.labels, manifest.trained_through) == (0, (), {})
    assert len(manifest.probes) == 4 and [it.name for it in manifest.precisions] == ["int8", "int4"]
    assert manifest.precisions[0].cosine > 0.9
    assert not bench.publisher.is_due()


def test_new_labels_make_a_version_that_sends_only_the_head(bench: Bench) -> None:
    bench.publish()
    bench.learn(0, 60)
    assert bench.publish() == 2
    first, second = bench.store.manifest(1), bench.store.manifest(2)
    assert [a.name for a, b in zip(first.tensors, second.tensors, strict=True) if a != b] == ["head.out"]
    assert second.labels == bench.learner.tier.head.classes and second.trained_through == {"feedback.v1/0": 60}
    assert second.evaluation.accuracy > second.evaluation.parent_accuracy == 0.0
    assert second.model_spec == bench.learner.model_spec
    assert {entry.digest for entry in second.tensors} == bench.store.has_blobs(e.digest for e in second.tensors)


def test_a_replica_reads_what_the_learner_measured(bench: Bench) -> None:
    from model.config import StrataConfig
    from model.qtensor import from_blob
    from model.quantized import QuantizedModel
    from model.ragged import RaggedBatch

    bench.publish()
    bench.learn(0, 60)
    manifest = bench.store.manifest(bench.publish())
    tensors = {e.name: from_blob(e, bench.store.get_blob(e.digest, e.num_bytes)) for e in manifest.tensors}
    model = QuantizedModel.from_tensors(StrataConfig.from_json(manifest.config), tensors, labels=manifest.labels)
    batch = RaggedBatch.of(tokenizer().encode_many([probe.text for probe in manifest.probes]))
    assert [tuple(row) for row in model.predict(batch).tolist()] == [probe.logits for probe in manifest.probes]


def test_labels_that_come_while_a_version_is_sent_are_in_the_next(bench: Bench) -> None:
    bench.learn(0, 30)
    bench.publisher.publish()
    bench.learn(30, 50)
    assert not bench.publisher.is_due()
    bench.publisher.settle(wait=True)
    assert bench.store.manifest(1).trained_through == {"feedback.v1/0": 30}
    assert bench.publish() == 2 and bench.store.manifest(2).trained_through == {"feedback.v1/0": 50}


def test_the_interval_is_kept(store: Store, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path, publish_interval_s=5.0)
    bench.publish()
    bench.learn(0, 9)
    assert not bench.publisher.is_due()
    bench.now_s += 5.0
    assert bench.publisher.is_due()


def test_what_the_gate_refuses_is_not_published(store: Store, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path, min_parity_cosine=1.1)
    assert bench.publish() == 0 == store.current()
    assert bench.learner.counts["gate_parity_cosine"] == 1 and not bench.publisher.is_due()


def test_a_withdrawn_version_takes_the_learner_back(bench: Bench) -> None:
    bench.publish()
    bench.learn(0, 30)
    bench.publish()
    learnt = bench.learner.counts["learnt"]
    for last in (60, 90):
        bench.learn(last - 30, last)
        bench.publish()
    withdraw(bench.store, to=2)
    bench.learn(90, 100)
    assert bench.publish() == 2
    assert bench.learner.counts["learnt"] == learnt and bench.learner.offsets == {"feedback.v1/0": 100}
    bench.learn(100, 120)
    assert bench.publish() == 5
    manifest = bench.store.manifest(5)
    assert manifest.parent == 2 and manifest.evaluation.parent_accuracy > 0
    counts = bench.learner.counts
    assert counts["learnt"] + counts["held_back"] + counts["set_aside"] == bench.learner.join.counts["matched"] == 120


def test_versions_that_may_return_keep_their_checkpoint(bench: Bench) -> None:
    bench.publish()
    withdraw(bench.store, to=1)
    for last in range(10, 60, 10):
        bench.learn(last - 10, last)
        bench.publish()
    assert [entry.version for entry in bench.checkpoints.entries()] == [6, 5, 4, 1]


def test_without_the_snapshot_the_learner_says_so_and_goes_on(bench: Bench) -> None:
    for last in (20, 40):
        bench.learn(last - 20, last)
        bench.publish()
    for path in bench.folder.glob("*-v1.checkpoint"):
        path.unlink()
    withdraw(bench.store, to=1)
    bench.learn(40, 60)
    assert bench.publish() == 1 and bench.learner.counts["snapshot_missing"] == 1
    bench.learn(60, 80)
    assert bench.publish() == 3 and bench.store.manifest(3).parent == 1


def test_a_checkpoint_whose_version_was_published_is_not_published_again(bench: Bench) -> None:
    bench.learn(0, 30)
    bench.publish()
    before = bench.learner.export(None)
    bench.start(renewed(bench.store))
    assert bench.learner.version == 1 and not bench.publisher.is_due()
    assert bench.learner.export(None).facts == before.facts
    assert bench.publisher.last is not None


def test_a_restart_without_news_publishes_nothing(bench: Bench) -> None:
    bench.learn(0, 30)
    bench.publish()
    bench.learner.learn([], {"feedback.v1/0": 31})
    bench.publisher.finish()
    bench.start(renewed(bench.store))
    assert bench.learner.version == 1 and not bench.publisher.is_due()


def test_a_pending_version_that_the_store_lacks_is_published_again(bench: Bench) -> None:
    bench.publish()
    bench.learn(0, 30)
    manifest = msgspec.structs.replace(bench.store.manifest(1), version=2, parent=1, tensors=())
    bench.learner.last_version = 2
    bench.checkpoints.write(bench.learner.export(manifest))
    bench.start(renewed(bench.store))
    assert bench.publish() == 3 and bench.store.manifest(3).trained_through == {"feedback.v1/0": 30}


def test_a_checkpoint_older_than_the_store_is_read_on_first(bench: Bench) -> None:
    for last in (20, 40):
        bench.learn(last - 20, last)
        bench.publish()
    bench.checkpoints.entries()[0].path.write_bytes(b"torn")
    bench.start(renewed(bench.store))
    assert bench.learner.version == 2 and bench.learner.offsets == {"feedback.v1/0": 20}
    bench.learn(20, 30)
    assert not bench.publisher.is_due()
    bench.learn(30, 60)
    assert bench.publish() == 3 and bench.store.manifest(3).parent == 2


def test_records_that_the_bus_has_lost_are_not_waited_for(bench: Bench) -> None:
    for last in (20, 40):
        bench.learn(last - 20, last)
        bench.publish()
    bench.checkpoints.entries()[0].path.write_bytes(b"torn")
    bench.start(renewed(bench.store))
    bench.publisher.forget_unreachable()
    bench.learn(20, 30)
    assert bench.publish() == 3


def test_a_wiped_store_gets_what_the_learner_knows(bench: Bench) -> None:
    bench.learn(0, 30)
    bench.publish()
    server = bench.store._server
    server.ask("DEL", *server.ask("KEYS", f"{server.config.prefix}*"))
    bench.start(renewed(bench.store))
    bench.learn(30, 40)
    assert bench.publish() == 2 == bench.store.current()
    assert bench.store.manifest(bench.store.current()).labels == bench.learner.tier.head.classes


def test_a_full_disk_publishes_nothing(bench: Bench) -> None:
    bench.publish()
    bench.learn(0, 30)
    (bench.folder / "000000002-v2.temporary").symlink_to("/dev/full")
    assert bench.publish() == 1 == bench.store.current()
    assert bench.learner.counts["failed_CheckpointFailed"] == 1
    assert bench.publish() == 3


def test_the_process_of_an_old_epoch_is_told_to_stop(bench: Bench) -> None:
    bench.publish()
    bench.store.release(bench.publisher._lease)
    assert bench.store.acquire("learner", "another", 60_000)
    bench.learn(0, 10)
    with pytest.raises(StaleEpoch):
        bench.publish()
    assert bench.store.current() == 1


def renewed(store: Store) -> Lease:
    lease = store.acquire("learner", "test", 60_000)
    assert lease is not None
    return lease


def withdraw(store: Store, *, to: int) -> None:
    plan = store.plan()
    arms = (Arm(name="stable", version=to, share=1.0),)
    revision = plan.revision + 1 if plan else 1
    store.write_plan(RolloutPlan(revision=revision, salt="s", arms=arms), current=to)
