"""Tests the records: their bytes are stable, and they are compatible with earlier and later readers."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.wire.test_plans import PLAN
from wire.records import (
    TOPIC_RECORDS,
    Answer,
    CohortEvaluation,
    ControllerReport,
    DeadLetter,
    Drift,
    Erasure,
    Evaluation,
    Event,
    Feedback,
    LearnerReport,
    Lineage,
    PrecisionEvaluation,
    Probe,
    Quarantined,
    Record,
    ReplicaReport,
    Round,
    TensorEntry,
    TensorPart,
    VersionEntry,
    WeightManifest,
    key_name,
    topic_name,
)

GOLDEN = Path(__file__).parent / "golden"

SAMPLES: dict[str, Record] = {
    "weight_manifest.v2": WeightManifest(
        version=12,
        parent=11,
        model_spec="a" * 64,
        config='{"layers":6}',
        labels=("card_declined", "refund"),
        precisions=(
            PrecisionEvaluation(name="int8", accuracy=0.875, cosine=0.9990234375, agreement=1.0),
            PrecisionEvaluation(name="int4", accuracy=0.75, cosine=0.984375, agreement=0.9375),
        ),
        tensors=(
            TensorEntry(
                name="head.out",
                scheme="w8c",
                digest="b" * 64,
                num_bytes=1_024,
                parts=(
                    TensorPart(name="q", dtype="I8", shape=(2, 8)),
                    TensorPart(name="scale", dtype="F16", shape=(2,)),
                ),
            ),
        ),
        probes=(Probe(text="hello", logits=(0.5, -0.25)),),
        trained_through={"answers.v1/0": 40, "feedback.v1/1": 7},
        evaluation=Evaluation(
            num_labels=64,
            accuracy=0.875,
            parent_accuracy=0.75,
            negative_flips=0.03125,
            cohorts=(CohortEvaluation(num_labels=32, accuracy=0.875, parent_accuracy=0.75),),
            worst_class="refund",
            worst_class_drop=0.125,
            anchor=9,
            anchor_labels=32,
            anchor_accuracy=0.75,
            accuracy_beside_anchor=0.875,
            head_update=0.25,
            top_update=0.0625,
        ),
        epoch=3,
        created_ms=1_700_000_000_000,
        erased=2,
        lineage=Lineage(
            rounds=(
                Round(
                    number=1,
                    kind="labels",
                    offsets={"answers.v1/0": 20, "feedback.v1/1": 3},
                    memory_offsets={"answers.v1/0": 30, "feedback.v1/1": 5},
                    outcome="adopted",
                ),
            ),
        ),
        max_tokens=256,
    ),
    "erasure.v1": Erasure(
        digest="c" * 32,
        number=2,
        time_ms=1_700_000_000_000,
        removed={"replay": 7, "held_back": 1},
        version=12,
        is_purged=True,
    ),
    "version_entry.v1": VersionEntry(version=12, action="published", time_ms=1_700_000_000_000, detail="gate passed"),
    "rollout_plan.v1": PLAN,
    "replica_report.v1": ReplicaReport(
        replica="r1",
        revision=4,
        versions=(11, 12),
        time_ms=1_700_000_000_000,
        swaps=2,
        swap_stalls_ms=(0.5,),
        swap_pauses_ms=(0.25,),
        refused={"bad_signature": 1},
        counts={"answers": 100},
        queue_items=3,
        model_bytes={"12": 23_000_000},
        damaged=("d" * 64,),
        stand_in=11,
    ),
    "learner_report.v1": LearnerReport(
        learner="l1",
        state="learning",
        time_ms=1_700_000_000_000,
        epoch=3,
        version=12,
        num_classes=2,
        counts={"labels": 50, "matched": 50, "drift_error": 1},
        lag=4,
        accuracy=0.75,
        recent_accuracy=0.875,
        evaluation=Evaluation(num_labels=64, accuracy=0.875, parent_accuracy=0.75),
        refusals=("worse_than_anchor",),
        replay_samples=40,
        held_back_samples=10,
        round_phase="train",
        round_progress=0.5,
        publish_ms={"solve": 120.5},
        learn_ms_per_label=2.5,
        drifts=(Drift(signal="error", at_label=40, before=0.125, after=0.5),),
        alarms=("'refund' is said to be 'delivery'",),
    ),
    "controller_report.v1": ControllerReport(
        controller="c1",
        time_ms=1_700_000_000_000,
        evidence="candidate 45/50 (90.0%), stable 180/200 (90.0%)",
        counts={"judged": 250, "failed_collect": 1},
        alarms=("collect: BadSignature: ...",),
    ),
}

samples = pytest.mark.parametrize("name", SAMPLES)


@samples
def test_bytes_do_not_change(name: str) -> None:
    assert msgspec.json.encode(SAMPLES[name]) == (GOLDEN / f"{name}.json").read_bytes()


@samples
def test_old_bytes_are_read_by_the_new_reader(name: str) -> None:
    old = (GOLDEN / f"{name}.json").read_bytes()
    assert msgspec.json.decode(old, type=type(SAMPLES[name])) == SAMPLES[name]


def test_the_report_from_before_stand_ins_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "replica_report.v1.before_stand_in.json").read_bytes(), type=ReplicaReport)
    assert old == msgspec.structs.replace(SAMPLES["replica_report.v1"], damaged=(), stand_in=0)


def test_the_manifest_from_before_the_anchor_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "weight_manifest.v2.before_gate.json").read_bytes(), type=WeightManifest)
    evaluation = Evaluation(num_labels=64, accuracy=0.875, parent_accuracy=0.75)
    expected = msgspec.structs.replace(
        SAMPLES["weight_manifest.v2"], evaluation=evaluation, erased=0, lineage=old.lineage, max_tokens=0
    )
    assert old == expected and old.lineage.gap and not old.lineage.rounds


@samples
def test_new_bytes_are_read_by_the_old_reader(name: str) -> None:
    """The old reader has the fields of the golden bytes, and requires all of them."""
    old_fields = msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes())
    old = msgspec.defstruct("Old", [(field, Any) for field in old_fields])
    read = msgspec.json.decode(msgspec.json.encode(SAMPLES[name]), type=old)
    assert {field: getattr(read, field) for field in old_fields} == old_fields


@pytest.mark.parametrize(
    "record", [Event, Answer, Feedback, DeadLetter, Quarantined], ids=lambda record: record.__name__
)
def test_topics_and_types_carry_the_version(record: type[Event]) -> None:
    topic, _, topic_version = record.TOPIC.rpartition(".")
    _, _, type_version = record.TYPE.rpartition(".")
    assert topic
    assert topic_version == "v1"
    assert type_version == "v1"


def test_no_two_records_share_a_topic_or_a_type() -> None:
    assert len({record.TOPIC for record in TOPIC_RECORDS}) == len(TOPIC_RECORDS)
    assert len({record.TYPE for record in TOPIC_RECORDS}) == len(TOPIC_RECORDS)


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        PLAN.revision = 5  # type: ignore[misc]


def test_names_carry_the_prefix() -> None:
    assert topic_name("eu.", Event) == "eu.events.v1"
    assert key_name("eu.", "blob", 7) == "eu.blob:7"


def test_an_event_without_a_key_is_its_own_entity() -> None:
    assert Event(id="e1", text="a").entity == "e1"
    assert Event(id="e1", text="a", key="c").entity == "c"


def test_all_labels_of_an_event_lie_in_one_partition() -> None:
    labels = [Feedback(event_id="e1", label=label, key=key, source=key) for label, key in (("a", "x"), ("b", "y"))]
    assert {label.entity for label in labels} == {"e1"}
    assert len({label.message_id for label in labels}) == 2


def test_the_manifest_counts_its_bytes() -> None:
    manifest = SAMPLES["weight_manifest.v2"]
    assert isinstance(manifest, WeightManifest)
    assert manifest.num_bytes == 1_024
