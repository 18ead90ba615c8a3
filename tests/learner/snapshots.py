"""Small snapshots for the tests of checkpoints."""

import msgspec
import torch

from learner.encoder.base import Origin
from learner.intake.join import JoinState
from learner.memory import Replay, hash_key
from learner.progress import LearnerProgress
from learner.rounds.plan import RoundPlan, StepPlan
from learner.samples import Labelled, Waiting
from learner.state.snapshot import Facts, Snapshot
from wire.records import Evaluation, Feedback, WeightManifest


def manifest(version: int, *, epoch: int = 1) -> WeightManifest:
    """The manifest that was about to be published as `version`, by the leader of `epoch`."""
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
        epoch=epoch,
        created_ms=5,
    )


def encoded(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def snapshot(version: int = 0, *, epoch: int = 1, value: float = 0.0) -> Snapshot:
    """The state that was about to be published as `version` (0: as none); `value` is in its tensor."""
    replay = Replay[Labelled](4, 100, key_of=hash_key(1))
    replay.add([Labelled("text", "a")])
    facts = Facts(
        epoch=epoch,
        version=version - 1,
        last_version=version,
        pending=manifest(version, epoch=epoch) if version else None,
        offsets={"feedback.v1/0": 7},
        classes=["a"],
        counts={"learnt": 1},
        progress=LearnerProgress(num_labels=1),
        origin=Origin(encoder="encoder", seed=0, num_features=5, trainable_layers=0),
        num_scored=2,
        num_correct=1,
        recent=[True],
        temperature=0.05,
        join=JoinState(
            pending=encoded([Waiting("e", "text", None, "stable", 1)]),
            parked=encoded([Feedback(event_id="f", label="a")]),
            labelled=[-(1 << 63)],
            expired=[],
            counts={},
        ),
        replay=replay.export(),
        holdout=replay.export(),
        since_round=replay.export(),
        round_plan=RoundPlan(number=1, steps=[StepPlan(fresh=[Labelled("text", "a")], draws=[])]),
    )
    return Snapshot(facts=facts, tensors={"head.gram": torch.full((3, 5), value, dtype=torch.float64)})
