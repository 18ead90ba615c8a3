"""Tests that an erasure leads to a version without the subject, despite kills, rollbacks and lost data."""

from pathlib import Path

import pytest

from learner.errors import CheckpointFailed
from learner.state.snapshot import encode
from tests.learner.publish_rig import PublishRig, wipe, withdraw
from tests.learner.small_learner import SUBJECT_DIGEST, small_learner
from tests.learner.streams import labelled_events, make_subject, stream
from wire.records import CommandOutcome, Erase
from wire.store import Store

pytestmark = pytest.mark.live

SUBJECT = make_subject(3)
DIGEST = SUBJECT_DIGEST(SUBJECT)


@pytest.fixture
def rig(rig: PublishRig) -> PublishRig:
    """A learner that has published a version after the first 70 events."""
    rig.learn(0, 70)
    rig.publish()
    return rig


ERASE = Erase(digest=DIGEST)


def carry_out(rig: PublishRig) -> CommandOutcome:
    """Lets the learner execute its commands; returns the outcome of the erasure of `DIGEST` in the store."""
    rig.follow()
    # Appending the command again returns the one that is in the log.
    outcome = rig.store.commands.outcome(rig.store.commands.append(ERASE))
    assert outcome is not None
    return outcome


def knows(rig: PublishRig) -> bool:
    return any(sample.subject == SUBJECT for sample in rig.learner.replay.samples())


def test_a_request_is_carried_out_published_and_told(rig: PublishRig) -> None:
    rig.runner.poll()
    rig.store.commands.append(ERASE)
    erasure = carry_out(rig)
    assert (erasure.seq, erasure.version, erasure.state) == (1, 0, "applied")
    assert erasure.numbers["replay"] > 5
    assert not knows(rig) and rig.store.versions.manifest(1).erased == 0
    assert rig.publish() == 2
    assert carry_out(rig).version == 2
    manifest = rig.store.versions.manifest(2)
    assert manifest.erased == 1 and SUBJECT not in str(manifest) and DIGEST not in str(manifest)


def test_a_version_on_its_way_still_knows_the_subject(rig: PublishRig) -> None:
    rig.learn(70, 90)
    rig.now_s += 10.0
    rig.publisher.publish()
    rig.store.commands.append(ERASE)
    assert carry_out(rig).version == 0 and rig.learner.version == 2
    assert rig.publish() == 3 and [rig.store.versions.manifest(version).erased for version in (2, 3)] == [0, 1]


def test_it_is_purged_when_no_older_version_and_no_older_checkpoint_is_left(rig: PublishRig) -> None:
    withdraw(rig.store, to=1)  # the plan holds version 1
    rig.store.commands.append(ERASE)
    carry_out(rig)
    rig.publish()
    assert carry_out(rig).state == "published"
    withdraw(rig.store, to=2)
    assert carry_out(rig).state == "published"
    assert [entry.version for entry in rig.checkpoints.entries()] == [2]
    rig.store.collector.collect([2], grace_ms=0)
    assert carry_out(rig).state == "purged"


def test_it_is_not_purged_while_an_older_checkpoint_is_at_the_shared_address(rig: PublishRig) -> None:
    """N21: the address was unreachable, and the next leader continued from a state with the erased subject."""
    there = list(rig.checkpoints.entries())
    rig.checkpoints._shared = lambda: there
    rig.store.commands.append(ERASE)
    carry_out(rig)
    rig.publish()
    withdraw(rig.store, to=2)
    carry_out(rig)
    rig.store.collector.collect([2], grace_ms=0)
    assert carry_out(rig).state == "published"
    there[:] = rig.checkpoints.entries()
    assert carry_out(rig).state == "purged"


def test_a_learner_without_a_checkpoint_never_learns_the_subject(store: Store, tmp_path: Path) -> None:
    store.commands.append(ERASE)
    rig = PublishRig(store, tmp_path)
    rig.runner.poll()
    rig.learn(0, 70)
    assert not knows(rig) and rig.learner.join.counts["answers_erased"] == 10
    rig.publish()
    assert store.versions.manifest(1).erased == 1


def test_a_kill_before_the_publication_loses_nothing(rig: PublishRig) -> None:
    rig.store.commands.append(ERASE)
    carry_out(rig)
    # As after a kill: the checkpoint is of version 1.
    rig.start()
    assert knows(rig)
    carry_out(rig)
    assert not knows(rig)
    rig.checkpoints.write(rig.learner.export(None, epoch=1))
    rig.start()
    assert not knows(rig) and rig.publisher.is_due()
    assert carry_out(rig).numbers["replay"] > 5
    version = rig.publish()
    assert carry_out(rig).version == version and rig.store.versions.manifest(version).erased == 1


def test_a_rollback_brings_nothing_back(rig: PublishRig) -> None:
    rig.store.commands.append(ERASE)
    carry_out(rig)
    rig.publish()
    withdraw(rig.store, to=1)
    (rig.folder / "000000009-v1.checkpoint").write_bytes(checkpoint_of_version_1(rig))
    rig.learn(70, 80)
    assert rig.publish() == 1 and rig.learner.erased.is_due and rig.learner.must_wait and not rig.publisher.is_due()
    rig.runner.poll()
    assert not knows(rig) and rig.publish() == 3 and rig.store.versions.manifest(3).erased == 1


def checkpoint_of_version_1(rig: PublishRig) -> bytes:
    """Returns the bytes of an old checkpoint. Another learner makes it again here."""
    learner = small_learner(trainable_layers=0)
    learner.learn_many(stream(0, 70), {"feedback.v1/0": 70})
    return encode(learner.export(rig.store.versions.manifest(1)))


def test_a_store_that_was_wiped_hears_of_it_again(rig: PublishRig) -> None:
    rig.store.commands.append(ERASE)
    carry_out(rig)
    rig.publish()
    carry_out(rig)
    wipe(rig.store)
    other = SUBJECT_DIGEST(make_subject(4))
    rig.store.commands.append(Erase(digest=other))
    assert carry_out(rig).version == 2
    found = [command.read(Erase).digest for command in rig.store.commands.read()]
    assert found == [DIGEST, other] and len(rig.learner.erased) == 2


def test_what_the_gate_refused_is_set_aside_first(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, max_head_update=0.3)
    rig.learn(0, 100)
    rig.publish()
    rig.learner.learn_many(labelled_events(range(100, 160), label="refund"), {})
    assert rig.publish() == 1 and rig.publisher.refusals
    store.commands.append(ERASE)
    carry_out(rig)
    assert rig.publish() == 2
    assert rig.learner.counts["set_aside"] > 40 and rig.learner.counts["given_up"] == 1


def test_a_checkpoint_that_fails_meanwhile_does_not_end_the_learner(
    rig: PublishRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> Path:
        raise CheckpointFailed("no space left")

    rig.store.commands.append(ERASE)
    carry_out(rig)
    rig.publish()
    with monkeypatch.context() as patched:
        patched.setattr(rig.checkpoints, "write", fail)
        rig.publisher.writer.begin()
        assert carry_out(rig).state == "published"
    rig.publisher.checkpoint()
    assert carry_out(rig).version
