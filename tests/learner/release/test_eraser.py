"""From a request in the store to a version without the subject, whatever comes between."""

from pathlib import Path

import pytest

from learner.release.eraser import Eraser
from learner.state.snapshot import encode
from tests.learner.publishing import PublishRig, withdraw
from tests.learner.small import SUBJECTS, small_learner
from tests.learner.streams import answer, feedback, stream, subject_of
from wire.records import Erasure
from wire.store import Store

pytestmark = pytest.mark.live

SUBJECT = subject_of(3)
DIGEST = SUBJECTS.digest(SUBJECT)


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> PublishRig:
    it = PublishRig(store, tmp_path)
    it.learn(0, 70)
    it.publish()
    return it


def eraser_of(bench: PublishRig) -> Eraser:
    return Eraser(
        bench.learner,
        bench.store,
        bench.checkpoints,
        bench.publisher,
        leadership=bench.leadership,
        now_ms=lambda: 7,
        clock_s=lambda: bench.now_s,
    )


def looked(bench: PublishRig, eraser: Eraser) -> Erasure:
    bench.now_s += 10.0
    eraser.look()
    found = bench.store.erasure(DIGEST)
    assert found is not None
    return found


def knows(bench: PublishRig) -> bool:
    return any(sample.subject == SUBJECT for sample in bench.learner.replay.samples())


def test_a_request_is_carried_out_published_and_told(bench: PublishRig) -> None:
    eraser = eraser_of(bench)
    eraser.look()
    bench.store.request_erasure(DIGEST)
    found = looked(bench, eraser)
    assert (found.number, found.version, found.is_purged) == (1, 0, False) and found.removed["replay"] > 5
    assert not knows(bench) and bench.store.manifest(1).erased == 0
    assert bench.publish() == 2
    assert looked(bench, eraser).version == 2
    manifest = bench.store.manifest(2)
    assert manifest.erased == 1 and SUBJECT not in str(manifest) and DIGEST not in str(manifest)


def test_a_version_on_its_way_still_knows_the_subject(bench: PublishRig) -> None:
    bench.learn(70, 90)
    bench.now_s += 10.0
    bench.publisher.publish()
    bench.store.request_erasure(DIGEST)
    assert looked(bench, eraser_of(bench)).version == 0 and bench.learner.version == 2
    assert bench.publish() == 3 and [bench.store.manifest(version).erased for version in (2, 3)] == [0, 1]


def test_it_is_purged_when_no_older_version_and_no_older_checkpoint_is_left(bench: PublishRig) -> None:
    eraser = eraser_of(bench)
    withdraw(bench.store, to=1)  # the plan holds version 1
    bench.store.request_erasure(DIGEST)
    looked(bench, eraser)
    bench.publish()
    assert not looked(bench, eraser).is_purged
    withdraw(bench.store, to=2)
    assert not looked(bench, eraser).is_purged
    assert [entry.version for entry in bench.checkpoints.entries()] == [2]
    bench.store.collect([2], grace_ms=0)
    assert looked(bench, eraser).is_purged


def test_a_learner_without_a_checkpoint_never_learns_the_subject(store: Store, tmp_path: Path) -> None:
    store.request_erasure(DIGEST)
    bench = PublishRig(store, tmp_path)
    eraser_of(bench).look()
    bench.learn(0, 70)
    assert not knows(bench) and bench.learner.join.counts["answers_erased"] == 10
    bench.publish()
    assert store.manifest(1).erased == 1


def test_a_kill_before_the_publication_loses_nothing(bench: PublishRig) -> None:
    bench.store.request_erasure(DIGEST)
    looked(bench, eraser_of(bench))
    bench.start()  # as killed: the checkpoint is that of version 1
    assert knows(bench)
    looked(bench, eraser_of(bench))
    assert not knows(bench)
    bench.checkpoints.write(bench.learner.export(None, epoch=1))
    bench.start()
    eraser = eraser_of(bench)
    assert not knows(bench) and bench.publisher.is_due()
    assert looked(bench, eraser).removed["replay"] > 5
    bench.publish()
    assert looked(bench, eraser).version == 2 and bench.store.manifest(2).erased == 1


def test_a_rollback_brings_nothing_back(bench: PublishRig) -> None:
    eraser = eraser_of(bench)
    bench.store.request_erasure(DIGEST)
    looked(bench, eraser)
    bench.publish()
    withdraw(bench.store, to=1)
    (bench.folder / "000000009-v1.checkpoint").write_bytes(checkpoint_of_version_1(bench))
    bench.learn(70, 80)
    assert bench.publish() == 1 and bench.learner.erased.is_due and not bench.publisher.is_due()
    eraser.look()
    assert not knows(bench) and bench.publish() == 3 and bench.store.manifest(3).erased == 1


def checkpoint_of_version_1(bench: PublishRig) -> bytes:
    """One that was still kept; here another learner makes it again."""
    learner = small_learner(trainable_layers=0)
    learner.learn(stream(0, 70), {"feedback.v1/0": 70})
    return encode(learner.export(bench.store.manifest(1)))


def test_a_store_that_was_wiped_hears_of_it_again(bench: PublishRig) -> None:
    eraser = eraser_of(bench)
    bench.store.request_erasure(DIGEST)
    looked(bench, eraser)
    bench.publish()
    looked(bench, eraser)
    server = bench.store._server
    server.ask("DEL", *server.ask("KEYS", f"{server.config.prefix}*"))
    other = SUBJECTS.digest(subject_of(4))
    bench.store.request_erasure(other)
    assert looked(bench, eraser).version == 2
    assert set(bench.store.erasures_requested(0)) == {DIGEST, other} and len(bench.learner.erased) == 2


def test_what_the_gate_refused_is_set_aside_first(store: Store, tmp_path: Path) -> None:
    bench = PublishRig(store, tmp_path, max_head_update=0.3)
    bench.learn(0, 100)
    bench.publish()
    poison = [it for number in range(100, 160) for it in (answer(number), feedback(number, label="refund"))]
    bench.learner.learn(poison, {})
    assert bench.publish() == 1 and bench.publisher.refusals
    store.request_erasure(DIGEST)
    looked(bench, eraser_of(bench))
    assert bench.publish() == 2
    assert bench.learner.counts["set_aside"] > 40 and bench.learner.counts["given_up"] == 1
