"""Tests the records: their bytes are stable, and they are compatible with earlier and later readers."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.wire.records.test_plans import PLAN
from tests.wire.stored_samples import SAMPLES
from wire.records import (
    TOPIC_RECORDS,
    Answer,
    ControllerReport,
    DeadLetter,
    Evaluation,
    Event,
    Feedback,
    HeadSolution,
    LearnerReport,
    NameChanges,
    Quarantined,
    ReplicaReport,
    WeightManifest,
    key_name,
    topic_name,
)

GOLDEN = Path(__file__).parents[1] / "golden"


BEFORE_CHANGES = msgspec.structs.replace(SAMPLES["weight_manifest.v2"], changes=NameChanges(), solution=HeadSolution())

samples = pytest.mark.parametrize("name", SAMPLES)


@samples
def test_bytes_do_not_change(name: str) -> None:
    assert msgspec.json.encode(SAMPLES[name]) == (GOLDEN / f"{name}.json").read_bytes()


@samples
def test_old_bytes_are_read_by_the_new_reader(name: str) -> None:
    old = (GOLDEN / f"{name}.json").read_bytes()
    assert msgspec.json.decode(old, type=type(SAMPLES[name])) == SAMPLES[name]


def test_the_controllers_report_from_before_it_said_what_it_waits_for_is_read() -> None:
    path = GOLDEN / "controller_report.v1.before_waits.json"
    assert msgspec.json.decode(path.read_bytes(), type=ControllerReport).waits_for == ""


def test_the_report_from_before_stand_ins_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "replica_report.v1.before_stand_in.json").read_bytes(), type=ReplicaReport)
    assert old == msgspec.structs.replace(SAMPLES["replica_report.v1"], damaged=(), stand_in=0)


def test_the_report_from_before_the_durable_version_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "learner_report.v1.before_durable.json").read_bytes(), type=LearnerReport)
    assert old == msgspec.structs.replace(SAMPLES["learner_report.v1"], durable_version=0)


def test_the_manifest_from_before_the_anchor_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "weight_manifest.v2.before_gate.json").read_bytes(), type=WeightManifest)
    evaluation = Evaluation(num_labels=64, accuracy=0.875, parent_accuracy=0.75)
    expected = msgspec.structs.replace(
        BEFORE_CHANGES, evaluation=evaluation, erased=0, lineage=old.lineage, max_tokens=0
    )
    assert old == expected and old.lineage.gap and not old.lineage.rounds


def test_the_manifest_from_before_changes_is_read() -> None:
    old = (GOLDEN / "weight_manifest.v2.before_changes.json").read_bytes()
    assert msgspec.json.decode(old, type=WeightManifest) == BEFORE_CHANGES


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
