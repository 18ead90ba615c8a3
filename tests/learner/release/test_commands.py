"""A request in the store leads to a version without the subject, whatever comes between."""

from pathlib import Path

import pytest

from learner.errors import CheckpointFailed
from learner.release.commands import Eraser
from learner.state.snapshot import encode
from tests.learner.publish_rig import PublishRig, wipe, withdraw
from tests.learner.small_learner import SUBJECT_DIGEST, small_learner
from tests.learner.streams import labelled_events, stream, subject_of
from wire.records import Erasure
from wire.store import Store

pytestmark = pytest.mark.live

SUBJECT = subject_of(3)
DIGEST = SUBJECT_DIGEST(SUBJECT)


@pytest.fixture
def rig(rig: PublishRig) -> PublishRig:
    """Has published what it learnt from the first 70 events."""
    rig.learn(0, 70)
    rig.publish()
    return rig


def eraser_of(rig: PublishRig) -> Eraser:
    return Eraser(
        rig.learner,
        rig.store,
        rig.checkpoints,
        rig.publisher,
        leadership=rig.leadership,
        now_ms=lambda: 7,
        clock_s=lambda: rig.now_s,
    )


def carry_out(rig: PublishRig, eraser: Eraser) -> Erasure:
    """Lets the eraser carry out what is requested; returns what the store then has of the erasure."""
    rig.now_s += 10.0
    eraser.carry_out()
    erasure = rig.store.erasures.of(DIGEST)
    assert erasure is not None
    return erasure


def knows(rig: PublishRig) -> bool:
    return any(sample.subject == SUBJECT for sample in rig.learner.replay.samples())


def test_a_request_is_carried_out_published_and_told(rig: PublishRig) -> None:
    eraser = eraser_of(rig)
    eraser.carry_out()
    rig.store.erasures.request(DIGEST)
    erasure = carry_out(rig, eraser)
    assert (erasure.number, erasure.version, erasure.is_purged) == (1, 0, False)
    assert erasure.removed["replay"] > 5
    assert not knows(rig) and rig.store.versions.manifest(1).erased == 0
    assert rig.publish() == 2
    assert carry_out(rig, eraser).version == 2
    manifest = rig.store.versions.manifest(2)
    assert manifest.erased == 1 and SUBJECT not in str(manifest) and DIGEST not in str(manifest)


def test_a_version_on_its_way_still_knows_the_subject(rig: PublishRig) -> None:
    rig.learn(70, 90)
    rig.now_s += 10.0
    rig.publisher.publish()
    rig.store.erasures.request(DIGEST)
    assert carry_out(rig, eraser_of(rig)).version == 0 and rig.learner.version == 2
    assert rig.publish() == 3 and [rig.store.versions.manifest(version).erased for version in (2, 3)] == [0, 1]


def test_it_is_purged_when_no_older_version_and_no_older_checkpoint_is_left(rig: PublishRig) -> None:
    eraser = eraser_of(rig)
    withdraw(rig.store, to=1)  # the plan holds version 1
    rig.store.erasures.request(DIGEST)
    carry_out(rig, eraser)
    rig.publish()
    assert not carry_out(rig, eraser).is_purged
    withdraw(rig.store, to=2)
    assert not carry_out(rig, eraser).is_purged
    assert [entry.version for entry in rig.checkpoints.entries()] == [2]
    rig.store.collector.collect([2], grace_ms=0)
    assert carry_out(rig, eraser).is_purged


def test_it_is_not_purged_while_an_older_checkpoint_is_at_the_shared_address(rig: PublishRig) -> None:
    """N21: while nothing could be sent there, the next leader went on from a state that knew the subject."""
    there = list(rig.checkpoints.entries())
    rig.checkpoints._shared = lambda: there
    eraser = eraser_of(rig)
    rig.store.erasures.request(DIGEST)
    carry_out(rig, eraser)
    rig.publish()
    withdraw(rig.store, to=2)
    carry_out(rig, eraser)
    rig.store.collector.collect([2], grace_ms=0)
    assert not carry_out(rig, eraser).is_purged
    there[:] = rig.checkpoints.entries()
    assert carry_out(rig, eraser).is_purged


def test_a_learner_without_a_checkpoint_never_learns_the_subject(store: Store, tmp_path: Path) -> None:
    store.erasures.request(DIGEST)
    rig = PublishRig(store, tmp_path)
    eraser_of(rig).carry_out()
    rig.learn(0, 70)
    assert not knows(rig) and rig.learner.join.counts["answers_erased"] == 10
    rig.publish()
    assert store.versions.manifest(1).erased == 1


def test_a_kill_before_the_publication_loses_nothing(rig: PublishRig) -> None:
    rig.store.erasures.request(DIGEST)
    carry_out(rig, eraser_of(rig))
    rig.start()  # as after a kill: the checkpoint is that of version 1
    assert knows(rig)
    carry_out(rig, eraser_of(rig))
    assert not knows(rig)
    rig.checkpoints.write(rig.learner.export(None, epoch=1))
    rig.start()
    eraser = eraser_of(rig)
    assert not knows(rig) and rig.publisher.is_due()
    assert carry_out(rig, eraser).removed["replay"] > 5
    version = rig.publish()
    assert carry_out(rig, eraser).version == version and rig.store.versions.manifest(version).erased == 1


def test_a_rollback_brings_nothing_back(rig: PublishRig) -> None:
    eraser = eraser_of(rig)
    rig.store.erasures.request(DIGEST)
    carry_out(rig, eraser)
    rig.publish()
    withdraw(rig.store, to=1)
    (rig.folder / "000000009-v1.checkpoint").write_bytes(checkpoint_of_version_1(rig))
    rig.learn(70, 80)
    assert rig.publish() == 1 and rig.learner.erased.is_due and not rig.publisher.is_due()
    eraser.carry_out()
    assert not knows(rig) and rig.publish() == 3 and rig.store.versions.manifest(3).erased == 1


def checkpoint_of_version_1(rig: PublishRig) -> bytes:
    """The bytes of a checkpoint that was kept for long; here another learner makes it again."""
    learner = small_learner(trainable_layers=0)
    learner.learn_many(stream(0, 70), {"feedback.v1/0": 70})
    return encode(learner.export(rig.store.versions.manifest(1)))


def test_a_store_that_was_wiped_hears_of_it_again(rig: PublishRig) -> None:
    eraser = eraser_of(rig)
    rig.store.erasures.request(DIGEST)
    carry_out(rig, eraser)
    rig.publish()
    carry_out(rig, eraser)
    wipe(rig.store)
    other = SUBJECT_DIGEST(subject_of(4))
    rig.store.erasures.request(other)
    assert carry_out(rig, eraser).version == 2
    assert set(rig.store.erasures.requested(0)) == {DIGEST, other} and len(rig.learner.erased) == 2


def test_what_the_gate_refused_is_set_aside_first(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, max_head_update=0.3)
    rig.learn(0, 100)
    rig.publish()
    rig.learner.learn_many(labelled_events(range(100, 160), label="refund"), {})
    assert rig.publish() == 1 and rig.publisher.refusals
    store.erasures.request(DIGEST)
    carry_out(rig, eraser_of(rig))
    assert rig.publish() == 2
    assert rig.learner.counts["set_aside"] > 40 and rig.learner.counts["given_up"] == 1


def test_a_checkpoint_that_fails_meanwhile_does_not_end_the_learner(
    rig: PublishRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> Path:
        raise CheckpointFailed("no space left")

    eraser = eraser_of(rig)
    rig.store.erasures.request(DIGEST)
    carry_out(rig, eraser)
    rig.publish()
    with monkeypatch.context() as patched:
        patched.setattr(rig.checkpoints, "write", fail)
        rig.publisher.writer.begin()
        assert not carry_out(rig, eraser).is_purged
    rig.publisher.checkpoint()
    assert carry_out(rig, eraser).version
