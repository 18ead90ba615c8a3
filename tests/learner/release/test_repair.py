"""B14: a blob that was damaged stayed so for ever, and a replica that started could load nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from learner.release.repair import Repairer
from learner.state.snapshot import Facts
from serving.errors import VersionRefused
from serving.weights.loader import Loader
from tests.learner.publishing import PublishRig, withdraw
from tests.learner.small import tokenizer
from wire.records import ReplicaReport
from wire.store import Store

pytestmark = pytest.mark.live


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> PublishRig:
    it = PublishRig(store, tmp_path)
    it.learn(0, 40)
    it.publish()
    return it


@pytest.fixture
def damage(raw: Any, key: Callable[..., str]) -> Callable[[str], None]:
    """Changes the first byte of a blob."""

    def flip(digest: str) -> None:
        name = key("blob", digest)
        chunk = raw.hget(name, 0)
        raw.hset(name, 0, bytes([chunk[0] ^ 1]) + chunk[1:])

    return flip


def repairer_of(bench: PublishRig, *, verify_every_s: float = 0.0) -> Repairer:
    return Repairer(
        bench.learner,
        bench.store,
        bench.publisher,
        leadership=bench.leadership,
        verify_every_s=verify_every_s,
        clock_s=lambda: bench.now_s,
    )


def loader(bench: PublishRig) -> Loader:
    """As a replica that has just started."""
    return Loader(bench.store, tokenizer(), probe_tolerance=0.05)


def refused(bench: PublishRig, version: int) -> tuple[str, ...]:
    """The damaged blobs for which a replica refuses the version, told to the store."""
    with pytest.raises(VersionRefused) as raised:
        loader(bench).load(version)
    bench.store.report(ReplicaReport(replica="r", revision=1, versions=(), time_ms=1, damaged=raised.value.damaged))
    return raised.value.damaged


def looked(bench: PublishRig, repairer: Repairer) -> None:
    bench.now_s += 2.0
    repairer.look()


def known(bench: PublishRig) -> Facts:
    """What the learner knows, but for how often it did something."""
    return msgspec.structs.replace(bench.learner.export(None).facts, counts={})


def digests(bench: PublishRig, version: int) -> dict[str, str]:
    return {entry.name: entry.digest for entry in bench.store.manifest(version).tensors}


def test_what_a_replica_reports_is_written_again(bench: PublishRig, damage: Callable[[str], None]) -> None:
    for name in ("embed.word", "head.out"):
        damage(digests(bench, 1)[name])
    assert len(refused(bench, 1)) == 2
    looked(bench, repairer_of(bench))
    assert bench.learner.counts["blobs_repaired"] == 2
    assert loader(bench).load(1).number == 1


def test_the_head_of_an_older_version_is_at_hand_while_the_plan_names_it(
    bench: PublishRig, damage: Callable[[str], None]
) -> None:
    withdraw(bench.store, to=1)
    for last in range(50, 160, 10):
        bench.learn(last - 10, last)
        bench.publish()
    damage(digests(bench, 1)["head.out"])
    assert refused(bench, 1)
    looked(bench, repairer_of(bench))
    assert loader(bench).load(1).number == 1


def test_after_a_restart_a_head_is_made_again_from_its_checkpoint(
    bench: PublishRig, damage: Callable[[str], None]
) -> None:
    withdraw(bench.store, to=1)
    bench.learn(40, 80)
    bench.publish()
    bench.start()
    bench.learn(80, 90)
    before = known(bench)
    damage(digests(bench, 1)["head.out"])
    assert refused(bench, 1)
    looked(bench, repairer_of(bench))
    assert loader(bench).load(1).number == 1
    assert known(bench) == before


def test_what_nobody_can_make_again_is_said_and_looked_at_again_later(
    bench: PublishRig, damage: Callable[[str], None]
) -> None:
    withdraw(bench.store, to=1)
    bench.learn(40, 80)
    bench.publish()
    for path in bench.folder.glob("*-v1.checkpoint"):
        path.unlink()
    bench.start()
    damage(digests(bench, 1)["head.out"])
    assert refused(bench, 1)
    repairer = repairer_of(bench)
    for _ in range(7):
        looked(bench, repairer)
    assert bench.learner.counts["blobs_not_at_hand"] == 2


def test_all_of_the_current_version_is_read_back_now_and_then(bench: PublishRig, damage: Callable[[str], None]) -> None:
    damage(digests(bench, 1)["head.proj"])
    repairer = repairer_of(bench, verify_every_s=3_600.0)
    looked(bench, repairer)
    with pytest.raises(VersionRefused):
        loader(bench).load(1)
    bench.now_s += 3_600.0
    looked(bench, repairer)
    assert bench.learner.counts["blobs_repaired"] == 1
    assert loader(bench).load(1).number == 1


def test_a_blob_that_says_nonsense_of_itself_does_not_end_the_learner(
    bench: PublishRig, raw: Any, key: Callable[..., str]
) -> None:
    """B25 no. 7: BlobCorrupt while publishing was not caught."""
    bench.learn(40, 80)
    encoder = key("blob", digests(bench, 1)["embed.word"])
    raw.hset(encoder, "chunk", "many")
    raw.hdel(encoder, "bytes")
    assert bench.publish() == 1 and bench.learner.counts["failed_BlobCorrupt"] == 1
    looked(bench, repairer_of(bench))
    assert bench.publish() == 2
    assert loader(bench).load(2).number == 2


def test_a_blob_whose_size_is_wrong_does_not_stop_the_publications(
    bench: PublishRig, raw: Any, key: Callable[..., str]
) -> None:
    bench.learn(40, 80)
    raw.hset(key("blob", digests(bench, 1)["head.proj"]), "bytes", "7")
    assert bench.publish() == 1 and bench.learner.counts["failed_NotFound"] == 1
    looked(bench, repairer_of(bench))
    assert bench.publish() == 3
