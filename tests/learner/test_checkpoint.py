from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from learner.checkpoint import Checkpoints, Facts, RoundPlan, Snapshot, StepPlan, decode, encode
from learner.errors import CheckpointFailed, CheckpointRefused
from learner.join import JoinState, Waiting
from learner.replay import Labelled, Replay, hashed
from wire.records import Evaluation, Feedback, WeightManifest


def manifest(version: int) -> WeightManifest:
    return WeightManifest(
        version=version,
        parent=version - 1,
        model_spec="spec",
        config="{}",
        labels=("a",),
        precisions=(),
        tensors=(),
        probes=(),
        trained_through={"feedback.v1/0": 7},
        evaluation=Evaluation(),
        epoch=1,
        created_ms=5,
    )


def snapshot(version: int = 0, *, value: float = 0.0) -> Snapshot:
    replay = Replay[Labelled](4, 100, key_of=hashed(1))
    replay.add([Labelled("text", "a")])
    facts = Facts(
        model_spec="spec",
        version=version - 1,
        last_version=version,
        pending=manifest(version) if version else None,
        source="source",
        offsets={"feedback.v1/0": 7},
        classes=["a"],
        counts={"learnt": 1},
        num_scored=2,
        num_correct=1,
        recent=[True],
        temperature=0.05,
        join=JoinState(
            pending=[Waiting("e", "text", None, "stable", 1)],
            parked=[Feedback(event_id="f", label="a")],
            labelled=[-(1 << 63)],
            expired=[],
            counts={},
        ),
        replay=replay.export(),
        held_back=replay.export(),
        since_round=replay.export(),
        round_plan=RoundPlan(number=1, steps=[StepPlan(fresh=[Labelled("text", "a")], draws=[])]),
    )
    return Snapshot(facts=facts, tensors={"head.gram": torch.full((3, 5), value, dtype=torch.float64)})


def test_a_snapshot_comes_back_as_it_was() -> None:
    back = decode(encode(snapshot(3, value=1.5)))
    assert back.facts == snapshot(3).facts
    assert torch.equal(back.tensors["head.gram"], torch.full((3, 5), 1.5, dtype=torch.float64))


def test_every_prefix_and_every_flipped_bit_is_refused() -> None:
    data = encode(snapshot(3))
    for length in range(0, len(data), 7):
        with pytest.raises(CheckpointRefused):
            decode(data[:length])
    for place in range(0, len(data), 11):
        with pytest.raises(CheckpointRefused):
            decode(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])


def test_a_whole_file_of_another_format_is_refused() -> None:
    old = snapshot(3)
    with pytest.raises(CheckpointRefused, match="another version"):
        decode(encode(replace(old, facts=msgspec.structs.replace(old.facts, offsets={"topic": "no offset"}))))


def test_a_torn_checkpoint_leaves_the_one_before_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=3)
    checkpoints.write(snapshot(1, value=1))
    torn = checkpoints.write(snapshot(2, value=2))
    data = torn.read_bytes()
    for length in range(0, len(data), len(data) // 40):
        torn.write_bytes(data[:length])
        found = checkpoints.newest()
        assert found and found.facts.pending == manifest(1)
    assert "bytes that are not what was written" in checkpoints.refused[-1]


def test_an_empty_folder_has_no_newest(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "new", num_newest=3).newest() is None


def test_versions_that_may_return_and_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=2)
    for version in (1, 2, 0, 3, 4, 0):
        checkpoints.write(snapshot(version, value=version))
    (tmp_path / "000000009-v9.temporary").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("not ours")
    checkpoints.prune([2, 0])
    assert [entry.version for entry in checkpoints.entries()] == [0, 4, 2]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".checkpoint"] * 3 + [".txt"]
    found = checkpoints.of_version(2)
    assert found and found.tensors["head.gram"][0, 0] == 2
    assert checkpoints.of_version(3) is None


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=2)
    checkpoints.write(snapshot(1))
    (tmp_path / "000000002-v2.temporary").symlink_to("/dev/full")
    with pytest.raises(CheckpointFailed, match="No space left"):
        checkpoints.write(snapshot(2))
    assert [path.name for path in tmp_path.iterdir()] == ["000000001-v1.checkpoint"]
