"""Manifests of earlier programs are read, and a manifest counts its bytes."""

from pathlib import Path

import msgspec

from tests.wire.stored_samples import SAMPLES
from wire.records import (
    Evaluation,
    HeadSolution,
    NameChanges,
    WeightManifest,
)

GOLDEN = Path(__file__).parents[1] / "golden"


MANIFEST = SAMPLES["weight_manifest.v2"]
assert isinstance(MANIFEST, WeightManifest)
BEFORE_CONCEPTS = msgspec.structs.replace(MANIFEST, lineage=msgspec.structs.replace(MANIFEST.lineage, changes=()))
BEFORE_CHANGES = msgspec.structs.replace(BEFORE_CONCEPTS, changes=NameChanges(), solution=HeadSolution())


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


def test_the_manifest_counts_its_bytes() -> None:
    assert MANIFEST.num_bytes == 1_024
