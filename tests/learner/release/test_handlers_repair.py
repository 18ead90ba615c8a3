"""B14: a damaged blob was never repaired, and a starting replica could not load any version."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from learner.state.snapshot import Facts
from serving.config import PrecisionConfig
from serving.errors import VersionRefused
from serving.weights.loader import Loader
from tests.learner.publish_rig import PublishRig, withdraw
from tests.learner.small_learner import tokenizer
from wire.records import Repair, ReplicaReport

pytestmark = pytest.mark.live


@pytest.fixture
def rig(rig: PublishRig) -> PublishRig:
    """A learner that has published a version after the first 40 events."""
    rig.learn(0, 40)
    rig.publish()
    return rig


@pytest.fixture
def damage(raw: Any, key: Callable[..., str]) -> Callable[[str], None]:
    """Returns a function that flips a bit of the first byte of a blob."""

    def flip(digest: str) -> None:
        name = key("blob", digest)
        chunk = raw.hget(name, 0)
        raw.hset(name, 0, bytes([chunk[0] ^ 1]) + chunk[1:])

    return flip


def loader(rig: PublishRig) -> Loader:
    """Returns the loader of a replica that has just started."""
    return Loader(rig.store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05)


def refused(rig: PublishRig, version: int) -> tuple[str, ...]:
    """Lets a replica refuse the version and report the damaged blobs; returns their digests."""
    with pytest.raises(VersionRefused) as raised:
        loader(rig).load(version)
    damaged = raised.value.damaged
    rig.store.reports.write_replica(ReplicaReport(replica="r", revision=1, versions=(), time_ms=1, damaged=damaged))
    return damaged


def repair(rig: PublishRig) -> None:
    """Lets the learner check for damage two seconds later."""
    rig.now_s += 2.0
    rig.runner.poll()


def known(rig: PublishRig) -> Facts:
    """Returns the learner's state without its counters."""
    return msgspec.structs.replace(rig.learner.export(None).facts, counts={})


def digests(rig: PublishRig, version: int) -> dict[str, str]:
    return {entry.name: entry.digest for entry in rig.store.versions.manifest(version).tensors}


def test_what_a_replica_reports_is_written_again(rig: PublishRig, damage: Callable[[str], None]) -> None:
    for name in ("embed.word", "head.out"):
        damage(digests(rig, 1)[name])
    assert len(refused(rig, 1)) == 2
    repair(rig)
    assert rig.learner.counts["blobs_repaired"] == 2
    assert loader(rig).load(1).number == 1


def test_the_head_of_an_older_version_is_at_hand_while_the_plan_names_it(
    rig: PublishRig, damage: Callable[[str], None]
) -> None:
    withdraw(rig.store, to=1)
    for last in range(50, 160, 10):
        rig.learn(last - 10, last)
        rig.publish()
    damage(digests(rig, 1)["head.out"])
    assert refused(rig, 1)
    repair(rig)
    assert loader(rig).load(1).number == 1


def test_after_a_restart_a_head_is_made_again_from_its_checkpoint(
    rig: PublishRig, damage: Callable[[str], None]
) -> None:
    withdraw(rig.store, to=1)
    rig.learn(40, 80)
    rig.publish()
    rig.start()
    rig.learn(80, 90)
    before = known(rig)
    damage(digests(rig, 1)["head.out"])
    assert refused(rig, 1)
    repair(rig)
    assert loader(rig).load(1).number == 1
    assert known(rig) == before


def test_what_nobody_can_make_again_is_said_and_looked_at_again_later(
    rig: PublishRig, damage: Callable[[str], None]
) -> None:
    withdraw(rig.store, to=1)
    rig.learn(40, 80)
    rig.publish()
    for path in rig.folder.glob("*-v1.checkpoint"):
        path.unlink()
    rig.start()
    damage(digests(rig, 1)["head.out"])
    assert refused(rig, 1)
    for _ in range(7):
        repair(rig)
    assert rig.learner.counts["blobs_not_at_hand"] == 2


def test_all_of_the_current_version_is_read_back_now_and_then(rig: PublishRig, damage: Callable[[str], None]) -> None:
    damage(digests(rig, 1)["head.proj"])
    rig.runner = rig.make_runner(verify_every_s=3_600.0)
    repair(rig)
    with pytest.raises(VersionRefused):
        loader(rig).load(1)
    rig.now_s += 3_600.0
    repair(rig)
    assert rig.learner.counts["blobs_repaired"] == 1
    assert loader(rig).load(1).number == 1


def test_a_blob_that_says_nonsense_of_itself_does_not_end_the_learner(
    rig: PublishRig, raw: Any, key: Callable[..., str]
) -> None:
    """B25 no. 7: BlobCorrupt was not handled while publishing."""
    rig.learn(40, 80)
    encoder = key("blob", digests(rig, 1)["embed.word"])
    raw.hset(encoder, "chunk", "many")
    raw.hdel(encoder, "bytes")
    assert rig.publish() == 1 and rig.learner.counts["publications_failed"] == 1
    repair(rig)
    assert rig.publish() == 2
    assert loader(rig).load(2).number == 2


def test_a_blob_whose_size_is_wrong_does_not_stop_the_publications(
    rig: PublishRig, raw: Any, key: Callable[..., str]
) -> None:
    rig.learn(40, 80)
    raw.hset(key("blob", digests(rig, 1)["head.proj"]), "bytes", "7")
    assert rig.publish() == 1 and rig.learner.counts["publications_failed"] == 1
    repair(rig)
    assert rig.publish() == 3


def test_what_an_operator_asks_for_is_compared_and_written_again(
    rig: PublishRig, damage: Callable[[str], None]
) -> None:
    damaged = digests(rig, 1)["head.proj"]
    damage(damaged)
    command = rig.store.commands.append(Repair(digests=(*digests(rig, 1).values(), "f" * 64)))
    outcome = rig.follow(command)
    assert outcome is not None and (outcome.state, outcome.version) == ("done", 1)
    assert outcome.numbers == {"repaired": 1, "sound": len(digests(rig, 1)) - 1, "not_at_hand": 1}
    assert loader(rig).load(1).number == 1
    rig.start()
    rig.follow()
    assert rig.learner.counts["blobs_repaired"] == 0, "it was done by the learner before"
