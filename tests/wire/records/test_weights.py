"""Tests that programs without tiers can read a round, and that a manifest counts its bytes."""

from typing import Any

import msgspec

from tests.wire.stored_samples import SAMPLES
from wire.records import (
    Round,
    WeightManifest,
)


def sample() -> WeightManifest:
    manifest = SAMPLES["weight_manifest.v3"]
    assert isinstance(manifest, WeightManifest)
    return manifest


MANIFEST = sample()


def test_a_round_of_full_depth_has_the_bytes_of_programs_without_tiers() -> None:
    plain = Round(number=1, kind="labels", offsets={})
    old = b'{"number":1,"kind":"labels","offsets":{},"memory_offsets":{},"outcome":"running"}'
    assert msgspec.json.encode(plain) == old
    assert msgspec.json.decode(old, type=Round) == plain


def test_the_depth_of_a_round_is_written_and_ignored_by_older_programs() -> None:
    deep = Round(number=1, kind="labels", offsets={}, layers=4)
    written = msgspec.json.encode(deep)
    assert b'"layers":4' in written and msgspec.json.decode(written, type=Round) == deep
    fields = [field for field in Round.__struct_fields__ if field != "layers"]
    old = msgspec.json.decode(written, type=msgspec.defstruct("Round", [(field, Any) for field in fields]))
    assert [getattr(old, field) for field in fields] == [getattr(deep, field) for field in fields]


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
