"""Manifests of earlier programs are read, and a manifest counts its bytes."""

from pathlib import Path
from typing import Any

import msgspec

from tests.wire.stored_samples import SAMPLES
from wire.records import (
    Certainty,
    Evaluation,
    HeadSolution,
    NameChanges,
    Round,
    WeightManifest,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def sample() -> WeightManifest:
    manifest = SAMPLES["weight_manifest.v2"]
    assert isinstance(manifest, WeightManifest)
    return manifest


MANIFEST = sample()
BEFORE_LABELS = msgspec.structs.replace(
    MANIFEST,
    label_commands=0,
    lineage=msgspec.structs.replace(MANIFEST.lineage, label_changes=()),
    certainty=Certainty(),
)
NO_TRIAL = msgspec.structs.replace(MANIFEST.name_changes, trial_wins=0, trial_ties=0, trial_losses=0)
BEFORE_TRIAL = msgspec.structs.replace(BEFORE_LABELS, name_changes=NO_TRIAL)
NO_HOLDOUT = msgspec.structs.replace(NO_TRIAL, held_wins=0, held_ties=0, held_losses=0)
BEFORE_HELD = msgspec.structs.replace(BEFORE_LABELS, name_changes=NO_HOLDOUT)
NO_CONCEPTS = msgspec.structs.replace(BEFORE_LABELS.lineage, concept_changes=())
BEFORE_CONCEPTS = msgspec.structs.replace(BEFORE_HELD, lineage=NO_CONCEPTS)
BEFORE_CHANGES = msgspec.structs.replace(BEFORE_CONCEPTS, name_changes=NameChanges(), solution=HeadSolution())


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


def test_the_manifest_from_before_concept_changes_is_read() -> None:
    old = (GOLDEN / "weight_manifest.v2.before_concepts.json").read_bytes()
    assert msgspec.json.decode(old, type=WeightManifest) == BEFORE_CONCEPTS


def test_the_manifest_from_before_the_comparison_on_the_holdout_is_read() -> None:
    old = (GOLDEN / "weight_manifest.v2.before_held.json").read_bytes()
    assert msgspec.json.decode(old, type=WeightManifest) == BEFORE_HELD


def test_the_manifest_from_before_the_trial_of_encoders_is_read() -> None:
    old = (GOLDEN / "weight_manifest.v2.before_trial.json").read_bytes()
    assert msgspec.json.decode(old, type=WeightManifest) == BEFORE_TRIAL


def test_a_round_that_trained_all_that_may_be_has_the_bytes_of_before_there_were_tiers() -> None:
    plain = Round(number=1, kind="labels", offsets={})
    old = b'{"number":1,"kind":"labels","offsets":{},"memory_offsets":{},"outcome":"running"}'
    assert msgspec.json.encode(plain) == old
    assert msgspec.json.decode(old, type=Round) == plain


def test_how_deep_a_round_trained_is_written_and_an_older_program_reads_past_it() -> None:
    deep = Round(number=1, kind="labels", offsets={}, layers=4)
    written = msgspec.json.encode(deep)
    assert b'"layers":4' in written and msgspec.json.decode(written, type=Round) == deep
    fields = [field for field in Round.__struct_fields__ if field != "layers"]
    old = msgspec.json.decode(written, type=msgspec.defstruct("Round", [(field, Any) for field in fields]))
    assert [getattr(old, field) for field in fields] == [getattr(deep, field) for field in fields]


def test_the_manifest_from_before_changes_of_labels_is_read() -> None:
    old = (GOLDEN / "weight_manifest.v2.before_labels.json").read_bytes()
    assert msgspec.json.decode(old, type=WeightManifest) == BEFORE_LABELS


def test_the_manifest_counts_its_bytes() -> None:
    assert MANIFEST.num_bytes == 1_024


def test_versions_with_another_head_share_the_encoder() -> None:
    head, *_ = [each for each in MANIFEST.tensors if each.name.startswith("head.")]
    other = msgspec.structs.replace(head, digest="f" * 64)
    tensors = tuple(other if each is head else each for each in MANIFEST.tensors)
    assert msgspec.structs.replace(MANIFEST, tensors=tensors).encoder_digests == MANIFEST.encoder_digests
    encoder = msgspec.structs.replace(head, name="layers.0.up")
    assert msgspec.structs.replace(MANIFEST, tensors=(*tensors, encoder)).encoder_digests == {
        **MANIFEST.encoder_digests,
        "layers.0.up": head.digest,
    }
