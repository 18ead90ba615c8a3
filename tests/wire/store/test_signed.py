"""Tests that records are read only if we signed them, for their place, in a format that this program knows."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.stores import KEYS, build_manifest, publish, take_lease
from wire.config import StoreConfig
from wire.errors import BadSignature, UnknownFormat
from wire.keyring import parse
from wire.records import (
    Arm,
    Evaluation,
    PrecisionEvaluation,
    Probe,
    RolloutPlan,
    TensorEntry,
    TensorPart,
    WeightManifest,
)
from wire.store import Store
from wire.store.signed import decode_manifest, encode

GOLDEN = Path(__file__).parent.parent / "golden"
GOLDEN_KEYS = parse("golden")
"""A shared secret: every release reads its signatures."""

Key = Callable[..., str]


def test_any_changed_byte_of_a_manifest_is_noticed(store: Store, raw: Any, key: Key) -> None:
    publish(store, take_lease(store), 1)
    body = raw.hget(key("manifest", 1), "body")
    for place in range(0, len(body), 7):
        changed = bytearray(body)
        changed[place] ^= 1
        raw.hset(key("manifest", 1), "body", bytes(changed))
        with pytest.raises(BadSignature):
            store.versions.manifest(1)


@pytest.mark.parametrize("signature", [None, "", "0" * 64, KEYS.sign(b"", "a name"), b"\xff" * 32])
def test_another_signature_is_refused(store: Store, raw: Any, key: Key, signature: str | bytes | None) -> None:
    publish(store, take_lease(store), 1)
    raw.hdel(key("manifest", 1), "signature")
    if signature is not None:
        raw.hset(key("manifest", 1), "signature", signature)
    with pytest.raises(BadSignature, match="manifest:1"):
        store.versions.manifest(1)


def test_another_key_is_refused(store: Store, store_config: StoreConfig) -> None:
    publish(store, take_lease(store), 1)
    stranger = Store(store_config, parse("another key"))
    with pytest.raises(BadSignature):
        stranger.versions.manifest(1)
    stranger.close()


def test_an_old_manifest_under_a_new_number_is_refused(store: Store, raw: Any, key: Key) -> None:
    publish(store, take_lease(store), 2)
    raw.hset(key("manifest", 2), mapping=raw.hgetall(key("manifest", 1)))
    with pytest.raises(BadSignature, match=r"manifest:2 was not signed with our key, or was changed"):
        store.versions.manifest(2)


def test_a_plan_of_another_task_or_service_is_refused(
    store: Store, store_config: StoreConfig, raw: Any, key: Key
) -> None:
    """N8: all tasks of a service share its keys; an attacker with write access to the server has none."""
    publish(store, take_lease(store), 3)
    store.plans.write(RolloutPlan(revision=1, salt="s", arms=(Arm(name="stable", version=3, share=1.0),)))
    elsewhere = replace(store_config, prefix=f"{store_config.prefix}us:")
    for other in (Store(store_config, KEYS, task="fraud"), Store(elsewhere, KEYS)):
        name = other._server.key("plan")
        raw.hset(name, mapping=raw.hgetall(key("plan")))
        with closing(other), pytest.raises(BadSignature, match=name):
            other.plans.read()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "other"}, "'other' 3"),
        ({"format_version": 2}, "'lifelong-weights' 2"),
        ({"format": "lifelong-weights\0"}, "this program reads lifelong-weights 3 and 4"),
    ],
)
def test_an_unknown_format_is_refused_by_name(store: Store, change: dict[str, Any], named: str) -> None:
    later = msgspec.structs.replace(build_manifest(store, 1, epoch=1), **change)
    store.versions.publish(later, take_lease(store))
    with pytest.raises(UnknownFormat, match=named):
        store.versions.manifest(1)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"{}", b'{"format":"lifelong-weights","format_version":3}'])
def test_a_signed_body_that_is_no_manifest_is_refused(store: Store, raw: Any, key: Key, body: bytes) -> None:
    raw.hset(key("manifest", 1), mapping={"body": body, "signature": KEYS.sign(body, key("manifest", 1))})
    with pytest.raises(UnknownFormat, match="version 1"):
        store.versions.manifest(1)


def test_a_giant_manifest_is_not_fetched(store: Store, raw: Any, key: Key) -> None:
    raw.hset(key("manifest", 1), "body", bytes((32 << 20) + 1))
    with pytest.raises(UnknownFormat, match="33554433 bytes"):
        store.versions.manifest(1)


def test_a_stored_manifest_is_still_read_and_still_written() -> None:
    manifest = WeightManifest(
        version=3,
        parent=2,
        model_spec="0f" * 32,
        config='{"hidden":384}',
        labels=("billing", "delivery"),
        precisions=(PrecisionEvaluation(name="int8", accuracy=0.9), PrecisionEvaluation(name="int4", accuracy=0.875)),
        tensors=(
            TensorEntry(
                name="head.out",
                scheme="w8c",
                digest="ab" * 32,
                num_bytes=2_312,
                parts=(
                    TensorPart(name="q", dtype="I8", shape=(2, 1_024)),
                    TensorPart(name="scale", dtype="F16", shape=(2,)),
                ),
            ),
        ),
        probes=(Probe(text="where is my parcel", logits=(0.25, -1.5)),),
        trained_through={"feedback.v1/1": 9, "feedback.v1/0": 12},
        evaluation=Evaluation(num_labels=40, accuracy=0.9),
        epoch=4,
        created_ms=1_764_000_000_000,
    )
    for name in ("manifest_v3.before_labels", "manifest_v3"):
        body = (GOLDEN / f"{name}.json").read_bytes()
        assert decode_manifest(body, 3) == manifest
        assert GOLDEN_KEYS.sign(body, "lifelong:manifest:3") == (GOLDEN / f"{name}.hmac").read_text()
    assert encode(manifest) == body
