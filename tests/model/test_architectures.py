"""Encoders of today give the same vectors as sentence-transformers, from the files that it writes."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from model.architectures import ARCHITECTURES, GLOBAL, LOCAL
from model.bert import load_encoder
from model.config import Span
from model.errors import MissingWeight, WrongConfig
from model.forward.native import why_unavailable
from model.published import read_published
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.weights import encoder_tensors
from tests.model.published_encoder import write_json
from tests.model.published_modern import MAX_TOKENS, SCALED, SHAPES, SIZES, TEXTS, write_published_by_libraries

KINDS = tuple(SHAPES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("pooling", "dense", "normalize", "prompt"), [("mean", (), True, "query: "), ("cls", (96, 64), False, "")]
)
def test_equals_sentence_transformers(
    tmp_path: Path, kind: str, pooling: str, dense: tuple[int, ...], normalize: bool, prompt: str
) -> None:
    published = write_published_by_libraries(
        tmp_path, kind, pooling=pooling, dense=dense, normalize=normalize, prompt=prompt
    )
    strata, tokenizer = load_encoder(str(published.folder))
    assert tokenizer.max_tokens == MAX_TOKENS
    batch = RaggedBatch.of(tokenizer.encode_many(TEXTS))
    torch.testing.assert_close(strata.vectors(batch), published.expected_BD, rtol=1e-4, atol=2e-5)
    # The weights are random, so that 8-bit rounding changes more than in a trained encoder.
    assert not why_unavailable(strata.config)
    quantized = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
    assert quantized.implementation == "native"
    assert torch.cosine_similarity(quantized.vectors(batch, "int8"), published.expected_BD).min() > 0.99
    assert torch.cosine_similarity(quantized.vectors(batch, "int4"), published.expected_BD).mean() > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_other_bases_and_patterns_are_read_in_both_formats(tmp_path: Path, kind: str) -> None:
    published = write_published_by_libraries(tmp_path, kind, **SCALED[kind])
    strata, tokenizer = load_encoder(str(published.folder))
    batch = RaggedBatch.of(tokenizer.encode_many(TEXTS))
    torch.testing.assert_close(strata.vectors(batch), published.expected_BD, rtol=1e-4, atol=2e-5)
    path = published.folder / "config.json"
    fields = json.loads(path.read_text())
    for name in ("rope_parameters", "layer_types"):
        fields.pop(name, None)
    write_json(path, fields | SCALED[kind] | SHAPES[kind])
    assert read_published(published.folder).config == strata.config


def test_the_published_shape_of_modernbert() -> None:
    """The fields are those of answerdotai/ModernBERT-base."""
    fields = {
        "model_type": "modernbert",
        "vocab_size": 50368,
        "hidden_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "intermediate_size": 1152,
        "max_position_embeddings": 8192,
        "norm_eps": 1e-05,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
    }
    shape = ARCHITECTURES["modernbert"].shape(fields)
    assert shape["spans"] == (Span(kind="local", window=64),)
    bases = [layer.rope_base for layer in shape["layers"]]
    assert bases[:4] == [160000.0, 10000.0, 10000.0, 160000.0]
    assert [layer.spans for layer in shape["layers"][:2]] == [(), ((12, 0),)]


def test_the_published_shape_of_embedding_gemma() -> None:
    """The fields are those of google/embeddinggemma-300m."""
    fields = {
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": 768,
        "num_hidden_layers": 24,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "intermediate_size": 1152,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-06,
        "sliding_window": 512,
        "_sliding_window_pattern": 6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "use_bidirectional_attention": True,
        "query_pre_attn_scalar": 256,
    }
    shape = ARCHITECTURES["gemma3_text"].shape(fields)
    assert shape["spans"] == (Span(kind="local", window=256),)
    assert [index for index, layer in enumerate(shape["layers"]) if not layer.spans] == [5, 11, 17, 23]
    assert {layer.rope_base for layer in shape["layers"] if layer.spans} == {10000.0}


GEMMA = SIZES | SHAPES["gemma3_text"] | {"vocab_size": 60, "rms_norm_eps": 1e-6}
MODERNBERT = SIZES | SHAPES["modernbert"] | {"vocab_size": 60, "norm_eps": 1e-5}


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("gemma3_text", GEMMA | {"use_bidirectional_attention": False}, "decoder, whose tokens do not see later ones"),
        ("gemma3_text", GEMMA | {"attn_logit_softcapping": 50.0}, r"has \{'attn_logit_softcapping': 50.0\}"),
        ("gemma3_text", GEMMA | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, "scales rotary positions"),
        ("modernbert", MODERNBERT | {"norm_bias": True}, r"has \{'norm_bias': True\}"),
        ("modernbert", MODERNBERT | {"layer_types": [GLOBAL, "chunked_attention"]}, f"expected {GLOBAL} and {LOCAL}"),
        ("modernbert", MODERNBERT | {"rope_parameters": {GLOBAL: {"rope_type": "yarn"}}}, r"positions \(yarn\)"),
        ("modernbert", {"hidden_size": 64}, "lacks .*'vocab_size'"),
    ],
)
def test_what_is_not_supported_is_refused(kind: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(WrongConfig, match=message):
        ARCHITECTURES[kind].shape(fields)


def test_a_field_of_another_type_names_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "modernbert"} | MODERNBERT | {"num_hidden_layers": "four"})
    with pytest.raises(WrongConfig, match=r"config\.json"):
        read_published(tmp_path)


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    published = write_published_by_libraries(tmp_path, "gemma3_text")
    path = published.folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    lost = next(name for name in tensors if name.endswith("layers.1.self_attn.q_norm.weight"))
    safetensors.torch.save_file({name: value for name, value in tensors.items() if name != lost}, path)
    with pytest.raises(MissingWeight, match=r"layers\.1\.q_norm\.weight: the file has no layers\.1\.self_attn\.q_norm"):
        load_encoder(str(published.folder))


def test_a_dense_module_with_an_activation_is_refused(tmp_path: Path) -> None:
    published = write_published_by_libraries(tmp_path, "eurobert", dense=(64,))
    path = published.folder / "2_Dense" / "config.json"
    fields = json.loads(path.read_text())
    write_json(path, fields | {"activation_function": "torch.nn.modules.activation.Tanh"})
    with pytest.raises(WrongConfig, match=r"expected the activation_function torch\.nn\.modules\.linear\.Identity"):
        read_published(published.folder)
