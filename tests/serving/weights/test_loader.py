"""The checks of a version before it may answer."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.bert import load_encoder
from model.config import LayerSpec
from model.head import out_weight, proj_weight
from model.qtensor import QTensor
from model.quantized import QuantizedModel
from model.weights import encoder_tensors
from serving.config import PrecisionConfig
from serving.errors import VersionRefused
from serving.weights.loader import Loader
from serving.weights.refusals import map_compute_errors, map_load_errors
from tests.serving.versions import (
    TINY,
    TinyPublisher,
    build_manifest,
    encoder_weights,
    head_logits,
    make_entry,
    make_labels,
    make_model,
    tokenizer,
    version_weights,
)
from wire.errors import StoreUnavailable
from wire.keyring import parse
from wire.records import PrecisionEvaluation, Probe, TensorEntry
from wire.store import Store


@pytest.fixture
def loader(store: Store) -> Loader:
    return Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05)


def refusal_reason(loader: Loader, number: int) -> str:
    with pytest.raises(VersionRefused) as caught:
        loader.load(number)
    return caught.value.reason


def test_a_published_version_is_loaded_and_says_what_the_learner_saw(learner: TinyPublisher, loader: Loader) -> None:
    manifest = learner.publish(1)
    version = loader.load(1)
    assert (version.number, version.precisions, version.num_bytes) == (1, manifest.precisions, manifest.num_bytes)
    assert head_logits(version.model, manifest.probes[0].text) == manifest.probes[0].logits
    digests = {entry.name: entry.digest for entry in manifest.tensors}
    assert version.encoding == version.model.encoder.encoding(digests, version.max_tokens)


def test_versions_of_two_shapes_are_loaded_side_by_side(learner: TinyPublisher, loader: Loader) -> None:
    learner.publish(1)
    tied = replace(TINY, layers=(LayerSpec(), LayerSpec(attention=0, ffn=0)))
    weights = version_weights(2) | encoder_weights(0, tied)
    model = QuantizedModel.from_tensors(tied, weights, labels=make_labels(2))
    learner.publish(
        2,
        blobs=[tensor.to_blob() for tensor in weights.values()],
        tensors=tuple(map(make_entry, weights.values())),
        config=tied.canonical_json(),
        model_spec=tied.spec_hash(tokenizer().digest),
        probes=(Probe(text="where is my card", logits=head_logits(model, "where is my card")),),
    )
    versions = [loader.load(number) for number in (1, 2)]
    assert not versions[0].model.encoder.has_same_shape(versions[1].model.encoder)
    for version, expected in zip(versions, (make_model(1), model), strict=True):
        assert head_logits(version.model, "hello") == head_logits(expected, "hello")


def test_where_no_vectors_are_wanted_no_version_names_its_encoding(learner: TinyPublisher, store: Store) -> None:
    learner.publish(1)
    silent = Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05, names_encodings=False)
    assert silent.load(1).encoding == ""


def test_a_version_says_where_its_texts_end_and_its_probes_end_there(learner: TinyPublisher, loader: Loader) -> None:
    learner.publish(1)
    learner.publish(2, max_tokens=6, probes=(Probe(text="where is my card, please", logits=of_first_words(2)),))
    assert (loader.load(1).max_tokens, loader.load(2).max_tokens) == (256, 6)
    learner.publish(3, max_tokens=8, probes=(Probe(text="where is my card, please", logits=of_first_words(3)),))
    assert refusal_reason(loader, 3) == "probe_mismatch"


def of_first_words(number: int) -> tuple[float, ...]:
    """Returns the logits of version `number` for the first six tokens of the probe."""
    return head_logits(make_model(number), "where is my card")


def test_a_version_that_was_never_published_is_not_found(loader: Loader) -> None:
    assert refusal_reason(loader, 5) == "not_found"


def test_a_manifest_under_another_key_is_refused(learner: TinyPublisher, store: Store, store_config: Any) -> None:
    learner.publish(1)
    stranger = Store(store_config, parse("another key"))
    of_stranger = Loader(stranger, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05)
    assert refusal_reason(of_stranger, 1) == "bad_signature"
    stranger.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format_version": 1}, "unknown_format"),
        ({"model_spec": "0" * 64}, "wrong_spec"),
        ({"precisions": ()}, "wrong_precision"),
        ({"precisions": (PrecisionEvaluation(name="int2"),)}, "wrong_precision"),
        ({"config": "{}"}, "wrong_config"),
        ({"labels": ("a", "a")}, "wrong_shape"),
        ({"labels": tuple("abcdefghi")}, "wrong_shape"),
        ({"probes": (Probe(text="hello", logits=(1.0, 2.0)),)}, "probe_mismatch"),
        ({"probes": (Probe(text="hello", logits=(9e3,) * 4),)}, "probe_mismatch"),
        ({"probes": (Probe(text="hello", logits=(1e300,) * 4),)}, "probe_mismatch"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_by_name(
    learner: TinyPublisher, loader: Loader, changes: dict[str, Any], reason: str
) -> None:
    learner.publish(1, **changes)
    assert refusal_reason(loader, 1) == reason


def with_head(change: Callable[[QTensor], tuple[TensorEntry, bytes]]) -> tuple[tuple[TensorEntry, ...], bytes]:
    """Returns the tensors of version 1 with another `head.out`, and its blob."""
    entry, blob = change(version_weights(1)["head.out"])
    others = [each for each in build_manifest(1).tensors if each.name != "head.out"]
    return (*others, entry), blob


def not_a_number(tensor: QTensor) -> tuple[TensorEntry, bytes]:
    bias = torch.full_like(tensor.parts["bias"], math.nan)
    return make_entry(damaged := QTensor("head.out", "w8c", {**tensor.parts, "bias": bias})), damaged.to_blob()


def too_narrow(tensor: QTensor) -> tuple[TensorEntry, bytes]:
    q_NK = tensor.parts["q"][:, :-4].contiguous()
    parts = {**tensor.parts, "q": q_NK, "ksum": q_NK.sum(dim=1, dtype=torch.int32)}
    return make_entry(damaged := QTensor("head.out", "w8c", parts)), damaged.to_blob()


def other_shape_inside(tensor: QTensor) -> tuple[TensorEntry, bytes]:
    blob = too_narrow(tensor)[1]
    return make_entry(tensor, blob), blob


def wrong_sum(tensor: QTensor) -> tuple[TensorEntry, bytes]:
    parts = {**tensor.parts, "ksum": tensor.parts["ksum"] + 1}
    return make_entry(damaged := QTensor("head.out", "w8c", parts)), damaged.to_blob()


def no_tensor(tensor: QTensor) -> tuple[TensorEntry, bytes]:
    blob = b"x" * (len(tensor.to_blob()))
    return make_entry(tensor, blob), blob


def another_name(tensor: QTensor) -> tuple[TensorEntry, bytes]:
    return make_entry(QTensor("head.up", "w8c", tensor.parts)), tensor.to_blob()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (not_a_number, "not_finite"),
        (too_narrow, "wrong_shape"),
        (other_shape_inside, "wrong_shape"),
        (wrong_sum, "bad_blob"),
        (no_tensor, "bad_blob"),
        (another_name, "missing_weight"),
    ],
)
def test_a_weight_that_is_wrong_is_refused_by_name(
    learner: TinyPublisher, loader: Loader, change: Callable[[QTensor], tuple[TensorEntry, bytes]], reason: str
) -> None:
    tensors, blob = with_head(change)
    learner.publish(1, blobs=[blob], tensors=tensors)
    assert refusal_reason(loader, 1) == reason


def test_a_blob_whose_bytes_changed_in_the_store_is_refused(
    learner: TinyPublisher, loader: Loader, raw: Any, key: Callable[..., str]
) -> None:
    manifest = learner.publish(1)
    entry = next(entry for entry in manifest.tensors if entry.name == "layers.0.qkv")
    name = key("blob", entry.digest)
    chunk = bytearray(raw.hget(name, 0))
    chunk[-1] ^= 1
    raw.hset(name, 0, bytes(chunk))
    assert refusal_reason(loader, 1) == "blob_corrupt"


def test_a_blob_that_is_missing_is_not_found(
    learner: TinyPublisher, loader: Loader, raw: Any, key: Callable[..., str]
) -> None:
    manifest = learner.publish(1)
    raw.delete(key("blob", manifest.tensors[0].digest))
    assert refusal_reason(loader, 1) == "not_found"


def test_a_store_that_is_away_says_nothing_of_the_version(learner: TinyPublisher, store_config: Any) -> None:
    away = Store(replace(store_config, url="redis://127.0.0.1:1/0", timeout_ms=100), parse("key"))
    with pytest.raises(StoreUnavailable):
        Loader(away, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05).load(1)
    away.close()


def test_weights_that_the_machine_cannot_hold_are_a_refusal() -> None:
    with pytest.raises(VersionRefused, match="load_failed: no memory"), map_load_errors():
        raise MemoryError("no memory")
    with pytest.raises(VersionRefused, match="load_failed: can't allocate memory"), map_compute_errors():
        raise RuntimeError("can't allocate memory")


@pytest.mark.parametrize("mistake", [KeyError("x"), TypeError("x"), IndexError("x"), AttributeError("x")])
def test_a_mistake_of_ours_is_not_the_fault_of_a_version(mistake: Exception) -> None:
    with pytest.raises(type(mistake)), map_load_errors(), map_compute_errors():
        raise mistake


def test_the_config_travels_in_the_manifest(learner: TinyPublisher, loader: Loader) -> None:
    learner.publish(1)
    assert loader.load(1).model.encoder.config == TINY


def test_the_real_encoder_is_loaded_and_probed(store: Store, loader: Loader) -> None:
    strata, _ = load_encoder("minilm-l6")
    config = strata.config
    out = out_weight(config, torch.ones(2, config.head_features), torch.zeros(2))
    weights = {**encoder_tensors(strata), "head.proj": proj_weight(config), "head.out": out}
    model = QuantizedModel.from_tensors(config, weights, labels=make_labels(1)[:2])
    TinyPublisher(store).publish(
        1,
        blobs=[tensor.to_blob() for tensor in weights.values()],
        tensors=tuple(make_entry(tensor) for tensor in weights.values()),
        config=config.canonical_json(),
        model_spec=config.spec_hash(tokenizer().digest),
        labels=model.labels,
        probes=(Probe(text="where is my card", logits=head_logits(model, "where is my card")),),
    )
    assert loader.load(1).model.labels == model.labels
