"""What is published when, and what is not."""

from pathlib import Path

import pytest

from tests.learner.publishing import Bench, withdraw
from wire.errors import StaleEpoch
from wire.store import Store

pytestmark = pytest.mark.live


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


def test_drift_ends_the_interval(store: Store, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path, publish_interval_s=5.0)
    bench.publish()
    bench.learn(0, 9)
    bench.publisher.hasten()
    assert bench.publisher.is_due()
    bench.publisher.publish()
    bench.publisher.settle(wait=True)
    bench.learn(9, 18)
    assert not bench.publisher.is_due()


def test_what_the_gate_refuses_is_not_published(store: Store, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path, min_parity_cosine=1.1)
    assert bench.publish() == 0 == store.current()
    assert bench.learner.counts["gate_parity_cosine"] == 1 and not bench.publisher.is_due()


def test_versions_that_may_return_keep_their_checkpoint(bench: Bench) -> None:
    bench.publish()
    withdraw(bench.store, to=1)
    for last in range(10, 60, 10):
        bench.learn(last - 10, last)
        bench.publish()
    assert [entry.version for entry in bench.checkpoints.entries()] == [6, 5, 4, 1]


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
