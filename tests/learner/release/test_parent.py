"""Where the learner stands after a restart, a rollback, a lost reply or a lost store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from learner.leadership import Leadership
from learner.state.snapshot import encode
from tests.learner.publishing import PublishRig, wipe, withdraw
from wire.errors import StaleEpoch
from wire.store import Store

pytestmark = pytest.mark.live


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> PublishRig:
    return PublishRig(store, tmp_path)


def test_a_withdrawn_version_takes_the_learner_back(bench: PublishRig) -> None:
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


def test_without_the_snapshot_the_learner_says_so_and_goes_on(bench: PublishRig) -> None:
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


def test_a_checkpoint_whose_version_was_published_is_not_published_again(bench: PublishRig) -> None:
    bench.learn(0, 30)
    bench.publish()
    before = bench.learner.export(None)
    bench.start()
    assert bench.learner.version == 1 and not bench.publisher.is_due()
    assert bench.learner.export(None).facts == before.facts
    assert bench.publisher.last is not None


def test_a_restart_without_news_publishes_nothing(bench: PublishRig) -> None:
    bench.learn(0, 30)
    bench.publish()
    bench.learner.learn([], {"feedback.v1/0": 31})
    bench.publisher.finish()
    bench.start()
    assert bench.learner.version == 1 and not bench.publisher.is_due()


def test_a_pending_version_that_the_store_lacks_is_published_again(bench: PublishRig) -> None:
    bench.publish()
    bench.learn(0, 30)
    manifest = msgspec.structs.replace(bench.store.manifest(1), version=2, parent=1, tensors=())
    bench.learner.last_version = 2
    bench.checkpoints.write(bench.learner.export(manifest, epoch=1))
    bench.start()
    assert bench.publish() == 3 and bench.store.manifest(3).trained_through == {"feedback.v1/0": 30}


def test_a_checkpoint_older_than_the_store_is_read_on_first(bench: PublishRig) -> None:
    for last in (20, 40):
        bench.learn(last - 20, last)
        bench.publish()
    bench.checkpoints.entries()[0].path.write_bytes(b"torn")
    bench.start()
    assert bench.learner.version == 2 and bench.learner.offsets == {"feedback.v1/0": 20}
    bench.learn(20, 30)
    assert not bench.publisher.is_due()
    bench.learn(30, 60)
    assert bench.publish() == 3 and bench.store.manifest(3).parent == 2


def test_a_second_kill_while_reading_on_publishes_no_child_that_knows_less(bench: PublishRig) -> None:
    """F06: how far to read was not in the checkpoint."""
    for last in (20, 40):
        bench.learn(last - 20, last)
        bench.publish()
    bench.checkpoints.entries()[0].path.write_bytes(b"torn")
    bench.start()
    bench.learn(20, 30)
    bench.publisher.claim()  # a checkpoint on the way
    bench.start()
    assert bench.learner.version == 2 and bench.learner.offsets == {"feedback.v1/0": 30}
    bench.learn(30, 35)
    assert not bench.publisher.is_due()
    bench.learn(35, 60)
    assert bench.publish() == 3 and bench.store.manifest(3).parent == 2


def test_a_state_that_was_never_served_is_not_taken_for_a_version(bench: PublishRig) -> None:
    """B20: a leader that slept left its own state under the number of a version that its successor published."""
    for last in (20, 40, 60):
        bench.learn(last - 20, last)
        bench.publish()
    served = bench.store.manifest(2)
    entry = bench.checkpoints.entries()[1]
    assert entry.version == 2
    never_served = msgspec.structs.replace(served, epoch=served.epoch + 1, trained_through={"feedback.v1/0": 1})
    entry.path.write_bytes(encode(bench.learner.export(never_served)))
    withdraw(bench.store, to=2)
    bench.learn(60, 70)
    assert bench.publish() == 2 and bench.learner.counts["snapshot_missing"] == 1


def test_a_current_version_without_a_manifest_is_not_waited_for(
    bench: PublishRig, raw: Any, key: Callable[..., str]
) -> None:
    bench.learn(0, 20)
    bench.publish()
    raw.set(key("current"), 7)
    bench.learn(20, 30)
    assert bench.publish() == 7 and bench.learner.counts["manifest_missing"] == 1
    assert bench.publish() == 8 and bench.store.manifest(8).parent == 7


def test_records_that_the_bus_has_lost_are_not_waited_for(bench: PublishRig) -> None:
    for last in (20, 40):
        bench.learn(last - 20, last)
        bench.publish()
    bench.checkpoints.entries()[0].path.write_bytes(b"torn")
    bench.start()
    bench.publisher.forget_unreachable()
    bench.learn(20, 30)
    assert bench.publish() == 3


def test_a_wiped_store_gets_what_the_learner_knows(bench: PublishRig) -> None:
    bench.learn(0, 30)
    bench.publish()
    wipe(bench.store)
    bench.start()
    bench.learn(30, 40)
    assert bench.publish() == 2 == bench.store.current()
    assert bench.store.manifest(bench.store.current()).labels == bench.learner.tier.head.classes


def test_a_store_that_is_wiped_under_a_leader_gets_it_without_a_restart_and_without_a_label(bench: PublishRig) -> None:
    bench.learn(0, 30)
    bench.publish()
    wipe(bench.store)
    bench.leadership.confirm()
    assert bench.publish() == 0  # it looks, and finds nothing
    assert bench.publish() == 2 == bench.store.current()
    assert bench.store.manifest(2).epoch == bench.leadership.lease.epoch == bench.checkpoints.highest_epoch() == 2
    assert not bench.publisher.is_due()


def test_a_publication_that_the_wiped_store_refuses_is_made_again(bench: PublishRig) -> None:
    bench.learn(0, 30)
    wipe(bench.store)
    assert bench.publish() == 0 and bench.learner.counts["failed_StaleEpoch"] == 1
    assert bench.publish() == 2 == bench.store.current()


def test_a_publication_under_a_lease_that_another_has_ends_it(
    bench: PublishRig, open_store: Callable[[], Store]
) -> None:
    bench.learn(0, 30)
    wipe(bench.store)
    assert Leadership(open_store(), "learner", "another", ttl_ms=60_000).acquire()
    with pytest.raises(StaleEpoch):
        bench.publish()
