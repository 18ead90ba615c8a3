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


BEFORE_CHANGES = msgspec.structs.replace(SAMPLES["weight_manifest.v2"], changes=NameChanges(), solution=HeadSolution())


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


def test_the_manifest_counts_its_bytes() -> None:
    manifest = SAMPLES["weight_manifest.v2"]
    assert isinstance(manifest, WeightManifest)
    assert manifest.num_bytes == 1_024
