"""The model as served: it is near full precision, and a text gets the same bits in every batch."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

from kernels.linear_i4.reference import high_plane
from model.errors import BadTokens, MissingWeight, WrongShape
from model.forward import pack_forward
from model.forward.native import why_unavailable
from model.head import logits, out_weight, proj_weight, projection
from model.qtensor import N8G64, QTensor, from_blob
from model.quantize import quantize_w4g64
from model.quantized import INT4, INT8, PRECISIONS, QuantizedEncoder, QuantizedHead, QuantizedModel
from model.ragged import RaggedBatch
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL, TOKEN_IDS, model_logits, small_strata
from tests.model.test_qtensor import make_entry
from tests.required import FILES, data_folder

STRATA = small_strata()
TENSORS = encoder_tensors(STRATA)
ENCODER = QuantizedEncoder.from_tensors(SMALL, TENSORS)
OUT_CR = torch.randn(5, SMALL.head_features, generator=torch.Generator().manual_seed(3))
HEAD_TENSORS = {
    "head.proj": proj_weight(SMALL),
    "head.out": out_weight(SMALL, OUT_CR, torch.arange(5.0)),
}
HEAD = QuantizedHead.from_tensors(SMALL, HEAD_TENSORS)
BATCH = RaggedBatch.of([[5, 6, 7], [1], [9, 8]])
SUPPORT = Path(__file__).resolve().parents[2] / "evals/streams/support/test.jsonl"


def cosines(minilm: tuple[Strata, TextTokenizer], encoder: QuantizedEncoder, texts: list[str]) -> torch.Tensor:
    strata, tokenizer = minilm
    token_ids = tokenizer.encode_many(texts)
    ours_BD, full_BD = (encode_many(encode, token_ids, batch_size=64) for encode in (encoder.encode, strata))
    return (ours_BD * full_BD).sum(dim=1)


def test_support_texts_keep_their_embeddings(
    minilm: tuple[Strata, TextTokenizer], quantized_minilm: QuantizedEncoder
) -> None:
    texts = [json.loads(line)["text"] for line in SUPPORT.read_text().splitlines()]
    cosine_B = cosines(minilm, quantized_minilm, texts)
    assert cosine_B.mean() >= 0.998
    assert cosine_B.min() > 0.98


def test_clinc150_keeps_its_embeddings(
    minilm: tuple[Strata, TextTokenizer], quantized_minilm: QuantizedEncoder
) -> None:
    path = data_folder("clinc150") / FILES["clinc150"]
    texts = [text for text, _ in json.loads(gzip.decompress(path.read_bytes()))["test"]][::5]
    assert cosines(minilm, quantized_minilm, texts).mean() >= 0.998


def test_minilm_answers_do_not_depend_on_the_batch(
    minilm: tuple[Strata, TextTokenizer], quantized_minilm: QuantizedEncoder
) -> None:
    texts = [json.loads(line)["text"] for line in SUPPORT.read_text().splitlines()[:24]]
    token_ids = minilm[1].encode_many([*texts, "", "a " * 60])
    together = quantized_minilm.encode(RaggedBatch.of(token_ids))
    alone = torch.cat([quantized_minilm.encode(RaggedBatch.of([ids])) for ids in token_ids])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("precision", PRECISIONS)
@given(TOKEN_IDS)
@settings(max_examples=25)
def test_together_equals_one_by_one(precision: str, token_ids: list[list[int]]) -> None:
    together = ENCODER.encode(RaggedBatch.of(token_ids), precision)
    alone = torch.cat([ENCODER.encode(RaggedBatch.of([ids]), precision) for ids in token_ids])
    assert torch.equal(together, alone)


def test_near_full_precision() -> None:
    assert (ENCODER.encode(BATCH) * STRATA(BATCH)).sum(dim=1).min() > 0.995


def test_int4_is_the_upper_plane() -> None:
    """INT4 gives the same bits as an encoder whose INT8 weights are the upper planes, and is near full precision."""
    upper = dict(TENSORS)
    for name, tensor in TENSORS.items():
        if tensor.scheme == "n8g64":
            hi_NJ = tensor.parts["hi"]
            m_NG = tensor.parts["m"]
            ksum_N = high_plane(hi_NJ, m_NG).sum(dim=1, dtype=torch.int32)
            parts = {"lo": torch.zeros_like(hi_NJ), "ksum": ksum_N}
            upper[name] = replace(tensor, parts={**tensor.parts, **parts})
    z_BD = ENCODER.encode(BATCH, INT4)
    assert torch.equal(z_BD, QuantizedEncoder.from_tensors(SMALL, upper).encode(BATCH))
    lowest_cosine = (z_BD * STRATA(BATCH)).sum(dim=1).min()
    assert lowest_cosine > 0.9
    assert lowest_cosine < 0.999


def alone(tensor: QTensor) -> QTensor:
    """Returns the INT4 weight inside a nested weight as a weight that is INT4 alone."""
    parts = {name: part for name, part in tensor.parts.items() if name != "lo"}
    ksum_N = high_plane(parts["hi"], parts["m"]).sum(dim=1, dtype=torch.int32)
    stored = replace(tensor, scheme="w4g64", parts={**parts, "ksum": ksum_N})
    blob = stored.to_blob()
    return from_blob(make_entry(stored, blob), blob)


def test_int4_alone_has_the_bits_of_int4_inside_int8() -> None:
    int4 = {name: alone(tensor) if tensor.scheme == N8G64 else tensor for name, tensor in TENSORS.items()}
    encoder = QuantizedEncoder.from_tensors(SMALL, int4)
    assert encoder.precisions == (INT4,)
    assert torch.equal(encoder.encode(BATCH), ENCODER.encode(BATCH, INT4))
    assert torch.equal(encoder.encode(BATCH), encoder.encode(BATCH, INT4))
    with pytest.raises(ValueError, match="precision is 'int8'; expected one of int4"):
        encoder.encode(BATCH, INT8)


@pytest.mark.parametrize("forward", ["native", "library"])
def test_token_embeddings_may_be_int4(forward: str) -> None:
    """The vectors equal those of an INT8 table with the same values."""
    word = quantize_w4g64("embed.word", STRATA.embed.word.weight)
    as_int8 = replace(word, scheme="w8c", parts={"q": word.q_NK, "scale": word.parts["scale"]})
    encoders = [pack_forward(SMALL, TENSORS | {word.name: each}, INT8, force=forward) for each in (word, as_int8)]
    int4_BD, int8_BD = (encoder.encode(BATCH) for encoder in encoders)
    assert torch.equal(int4_BD, int8_BD)
    assert not torch.equal(int4_BD, ENCODER.encode(BATCH))


def test_int8_unless_asked_otherwise() -> None:
    assert torch.equal(ENCODER.encode(BATCH), ENCODER.encode(BATCH, INT8))
    model = QuantizedModel(ENCODER, HEAD, ["a", "b"])
    assert torch.equal(model_logits(model, BATCH, INT4), HEAD.logits(ENCODER.encode(BATCH, INT4), 2))
    with pytest.raises(ValueError, match="precision is 'int2'; expected one of int8, int4"):
        model_logits(model, BATCH, "int2")


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_full_precision_top_goes_on_from_the_prefix(layer: int) -> None:
    z_BD = STRATA.forward_from(layer, ENCODER.encode_prefix(BATCH, layer), BATCH.layout)
    assert (z_BD * STRATA(BATCH)).sum(dim=1).min() > 0.995
    if layer == SMALL.n_layers:
        # The mean is summed in another order.
        assert torch.allclose(z_BD, ENCODER.encode(BATCH), atol=1e-6)


def test_prefix_can_be_trained_on() -> None:
    strata = small_strata().requires_grad_()
    prefix = ENCODER.encode_prefix(BATCH, 1)
    strata.forward_from(1, prefix, BATCH.layout).sum().backward()  # type: ignore[no-untyped-call]
    assert strata.get_parameter("layers.1.up.weight").grad is not None


def test_the_number_of_threads_does_not_change_the_result() -> None:
    batch = RaggedBatch.of([[1] * length for length in (3, 5, 5, 70, 11)])
    with_one = ENCODER.encode(batch)
    torch.set_num_threads(2)
    with_two = ENCODER.encode(batch)
    assert torch.equal(with_one, with_two)


def test_threads_share_an_encoder() -> None:
    batches = [RaggedBatch.of([[token] * 7, [token, 1]]) for token in range(12)]
    expected = [ENCODER.encode(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        encoded = list(pool.map(ENCODER.encode, batches))
    assert all(torch.equal(one, other) for one, other in zip(encoded, expected, strict=True))


def test_it_says_which_implementation_encodes() -> None:
    expected = "library" if why_unavailable(SMALL) else "native"
    assert ENCODER.implementation == expected


@pytest.mark.parametrize("token_ids", [[[SMALL.vocab]], [[-1]], [[0] * (SMALL.max_pos + 1)]])
def test_refuses_tokens(token_ids: list[list[int]]) -> None:
    for encode in (ENCODER.encode, lambda batch: ENCODER.encode_prefix(batch, 1)):
        with pytest.raises(BadTokens):
            encode(RaggedBatch.of(token_ids))


@pytest.mark.parametrize("layer", [-1, 3])
def test_refuses_layers_that_are_not_there(layer: int) -> None:
    with pytest.raises(WrongShape, match=f"layer is {layer}; expected 0 to 2"):
        ENCODER.encode_prefix(BATCH, layer)


def test_refuses_incomplete_weights() -> None:
    with pytest.raises(MissingWeight, match=r"embed\.word is missing"):
        QuantizedEncoder.from_tensors(SMALL, {})
    with pytest.raises(MissingWeight, match=r"head\.proj is missing"):
        QuantizedHead.from_tensors(SMALL, {})
    with pytest.raises(WrongShape, match=r"head\.out is w8c \[8, 48\]; expected w8c \[9, 48\]"):
        QuantizedHead.from_tensors(replace(SMALL, label_capacity=9), HEAD_TENSORS)


def test_logits_are_near_full_precision() -> None:
    z_BD = ENCODER.encode(BATCH)
    full_BC = logits(z_BD, projection(SMALL), OUT_CR, torch.arange(5.0))
    logits_BC = HEAD.logits(z_BD, 5)
    assert (logits_BC - full_BC).abs().max() < 0.03 * full_BC.abs().max()
    assert torch.equal(logits_BC[:, :2], HEAD.logits(z_BD, 2))


def test_head_without_labels_and_without_texts() -> None:
    assert HEAD.logits(ENCODER.encode(BATCH), 0).shape == (3, 0)
    assert HEAD.logits(torch.empty(0, SMALL.d_model), 5).shape == (0, 5)


@pytest.mark.parametrize("num_labels", [-1, 9])
def test_refuses_labels_beyond_capacity(num_labels: int) -> None:
    with pytest.raises(WrongShape, match=f"num_labels is {num_labels}; expected 0 to 8"):
        HEAD.logits(torch.zeros(1, SMALL.d_model), num_labels)


def test_model_is_encoder_and_head() -> None:
    model = QuantizedModel.from_tensors(SMALL, TENSORS | HEAD_TENSORS, labels=("a", "b", "c"))
    shared = QuantizedModel(model.encoder, HEAD, ["a", "b"])
    assert model.labels == ("a", "b", "c")
    assert torch.equal(model_logits(model, BATCH), HEAD.logits(ENCODER.encode(BATCH), 3))
    assert torch.equal(model_logits(shared, BATCH), model_logits(model, BATCH)[:, :2])


@pytest.mark.parametrize("labels", [["a", "a"], [str(index) for index in range(9)]])
def test_model_refuses_labels(labels: list[str]) -> None:
    with pytest.raises(WrongShape, match="expected at most 8, all different"):
        QuantizedModel(ENCODER, HEAD, labels)


def test_model_refuses_parts_of_different_shape() -> None:
    other = QuantizedHead.from_tensors(replace(SMALL, n_layers=3), HEAD_TENSORS)
    with pytest.raises(WrongShape, match="different configs"):
        QuantizedModel(ENCODER, other, [])


def test_heads_of_one_projection_share_its_features() -> None:
    """If two versions have equal encoders, the second version costs one more product."""
    z_BD = ENCODER.encode(BATCH)
    other_out = {"head.out": out_weight(SMALL, -OUT_CR, torch.zeros(5))}
    other = QuantizedHead.from_tensors(SMALL, other_out, HEAD.features)
    alone = QuantizedHead.from_tensors(SMALL, {**HEAD_TENSORS, **other_out})
    features_BR = HEAD.features.of(z_BD)
    assert torch.equal(HEAD.head_logits(features_BR, 5), HEAD.logits(z_BD, 5))
    assert torch.equal(other.head_logits(features_BR, 5), alone.logits(z_BD, 5))
