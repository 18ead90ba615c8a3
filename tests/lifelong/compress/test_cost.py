"""The arithmetic of a model's cost, against the tables of the design and against real weights."""

import dataclasses

import pytest
import torch

from lifelong.compress.cost import BF16, flops, matrix_bytes, num_bytes, pairs_seen, parameters, tasks
from model.config import MINILM_L6, LayerSpec, Span, StrataConfig
from model.qtensor import FP32, W4G64, QTensor
from model.quantize import quantize_n8g64, quantize_w8c
from model.strata import Strata
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL


def tied(*, embed_dim: int, banks: int, kv_heads: int, rank: int) -> StrataConfig:
    """Returns MiniLM's config with `banks` banks, each shared by neighbouring layers."""
    size = MINILM_L6.n_layers // banks
    layers = tuple(
        LayerSpec(attention=index // size * size, ffn=index // size * size, kv_heads=kv_heads, lora_rank=rank)
        for index in range(MINILM_L6.n_layers)
    )
    return dataclasses.replace(MINILM_L6, embed_dim=embed_dim, layers=layers)


def size_in_bytes(tensor: QTensor) -> int:
    return sum(part.numel() * part.element_size() for part in tensor.parts.values())


@pytest.mark.parametrize(
    "config, millions",
    [
        (MINILM_L6, 22.56),
        (tied(embed_dim=128, banks=3, kv_heads=12, rank=16), 10.1),
        (tied(embed_dim=128, banks=2, kv_heads=12, rank=16), 8.4),
        (tied(embed_dim=128, banks=2, kv_heads=4, rank=16), 7.9),
        (tied(embed_dim=96, banks=2, kv_heads=4, rank=8), 6.6),
    ],
)
def test_stored_parameters_match_the_table(config: StrataConfig, millions: float) -> None:
    assert parameters(config).total / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("num_tasks, kv_heads, saved", [(3, 4, 0.591), (3, 12, 0.562), (4, 4, 0.658)])
def test_the_savings_of_a_trunk_match_the_table(num_tasks: int, kv_heads: int, saved: float) -> None:
    layers = (LayerSpec(kv_heads=kv_heads),) * MINILM_L6.n_layers
    config = dataclasses.replace(MINILM_L6, layers=layers)
    found = tasks(config, num_tasks, depth=4, separate=MINILM_L6)
    assert found.saved == pytest.approx(saved, abs=0.002)
    assert found.compute <= 1 + 0.4 * (num_tasks - 1)


def test_a_single_task_costs_as_much_as_its_model() -> None:
    found = tasks(MINILM_L6, 1, depth=MINILM_L6.n_layers, separate=MINILM_L6)
    assert found.saved == 0
    assert found.compute == 1


def test_parameters_match_the_weights_of_the_encoder() -> None:
    assert parameters(SMALL).total == sum(each.numel() for each in Strata(SMALL).parameters())


def test_bytes_match_the_stored_weights() -> None:
    tensors = encoder_tensors(Strata(SMALL)).values()
    assert num_bytes(SMALL) == sum(size_in_bytes(tensor) for tensor in tensors)


def test_bytes_of_a_matrix_are_the_sum_of_its_parts() -> None:
    w_NK = torch.randn(6, 128)
    for tensor in (quantize_n8g64("w", w_NK), quantize_w8c("w", w_NK)):
        assert matrix_bytes(tensor.scheme, 6, 128) == size_in_bytes(tensor)


def test_a_scheme_for_all_matrices() -> None:
    fp32 = num_bytes(MINILM_L6, FP32)
    assert fp32 == pytest.approx(4 * parameters(MINILM_L6).total, rel=1e-3)
    assert fp32 / num_bytes(MINILM_L6, BF16) == pytest.approx(2, rel=0.01)
    assert fp32 / num_bytes(MINILM_L6, W4G64) > 7.3


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="bcsr"):
        matrix_bytes("bcsr", 1, 64)


def test_flops_of_a_token() -> None:
    short = flops(MINILM_L6, 1024)
    assert short.matrices / 1024 == pytest.approx(21.2e6, rel=0.01)
    assert short.attention / 1024 / MINILM_L6.n_layers == pytest.approx(1.57e6, rel=0.01)
    assert short.total == short.matrices + short.attention


@pytest.mark.parametrize("kinds, saved", [("LLT", 0.829), ("TTT", 0.745)])
def test_the_savings_of_sparse_attention_match_the_table(kinds: str, saved: float) -> None:
    spans = (Span(kind="local", window=64, sinks=4), Span(kind="topk", window=64, sinks=4, topk=4, block=32))
    layers = tuple(LayerSpec(spans=((12, "LT".index(kind)),)) for kind in kinds * 2)
    sparse = flops(dataclasses.replace(MINILM_L6, spans=spans, layers=layers), 1024)
    full = flops(MINILM_L6, 1024)
    assert 1 - sparse.attention / full.attention == pytest.approx(saved, abs=0.02)
    assert 0 < sparse.routing < 0.04 * full.attention


@pytest.mark.parametrize(
    "span",
    [
        Span(kind="local", window=64),
        Span(kind="topk", topk=8, block=8),
        Span(kind="local", window=1, dense_below=65),
    ],
)
def test_a_span_as_long_as_the_text_sees_all_of_it(span: Span) -> None:
    assert pairs_seen(span, 64) == 64 * 64


def test_a_window_is_cut_at_the_ends_of_the_text() -> None:
    assert pairs_seen(Span(kind="local", window=1), 4) == 2 + 3 + 3 + 2
    assert pairs_seen(Span(kind="local", window=1, sinks=1), 4) == 2 + 3 + 4 + 3


def test_a_tied_matrix_is_stored_once_and_computed_twice() -> None:
    config = tied(embed_dim=0, banks=3, kv_heads=12, rank=0)
    assert parameters(config).feed_forward == parameters(MINILM_L6).feed_forward / 2
    assert flops(config, 16).matrices == flops(MINILM_L6, 16).matrices
