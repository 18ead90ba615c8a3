"""The second moments of the matrices' inputs over the built-in texts, and the scales that follow from them."""

import copy
from functools import partial

import pytest
import torch

from model.calibration import TEXTS, grams, smooth
from model.linears import ScaledLinear
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL, small_strata

Minilm = tuple[Strata, TextTokenizer]


@pytest.fixture(scope="module")
def minilm_grams(minilm: Minilm) -> dict[str, torch.Tensor]:
    return grams(*minilm)


def test_every_matrix_has_a_gram_matrix(minilm_grams: dict[str, torch.Tensor]) -> None:
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(6):
        for part, width in {"qkv": 384, "out": 384, "up": 384, "down": 1536}.items():
            shapes[f"layers.{layer}.{part}"] = (width, width)
    assert {name: tuple(gram_KK.shape) for name, gram_KK in minilm_grams.items()} == shapes


def test_a_gram_matrix_is_symmetric_and_positive(minilm_grams: dict[str, torch.Tensor]) -> None:
    gram_KK = minilm_grams["layers.3.up"]
    assert torch.allclose(gram_KK, gram_KK.t(), rtol=1e-3, atol=1e-4)
    assert torch.linalg.eigvalsh(gram_KK.double()).min() > -1e-4 * gram_KK.diagonal().max()


@pytest.fixture
def smoothed(minilm: Minilm, minilm_grams: dict[str, torch.Tensor]) -> tuple[Strata, dict[str, torch.Tensor]]:
    strata = copy.deepcopy(minilm[0])
    return strata, smooth(strata, minilm_grams)


def test_scales_are_powers_of_two_that_even_out(
    minilm_grams: dict[str, torch.Tensor], smoothed: tuple[Strata, dict[str, torch.Tensor]]
) -> None:
    strata, scaled = smoothed
    for name in ("layers.0.qkv", "layers.5.up"):
        layer = strata.get_submodule(name)
        assert isinstance(layer, ScaledLinear)
        exponent_K = layer.in_scale.log2()
        assert torch.equal(exponent_K, exponent_K.round())
        assert exponent_K.abs().max() >= 1
        assert exponent_K.mean().abs() < 0.5
        spread, spread_before = (grams_KK[name].diagonal().log().std() for grams_KK in (scaled, minilm_grams))
        assert spread < 0.8 * spread_before
    assert scaled.keys() == minilm_grams.keys()
    assert scaled["layers.0.down"] is minilm_grams["layers.0.down"]


def test_full_precision_does_not_depend_on_the_scales(
    minilm: Minilm, smoothed: tuple[Strata, dict[str, torch.Tensor]]
) -> None:
    batch = RaggedBatch.of(minilm[1].encode_many(TEXTS[:8]))
    assert torch.equal(smoothed[0](batch), minilm[0](batch))


def test_an_input_that_is_always_zero_has_a_scale() -> None:
    strata = small_strata()
    smooth(strata, {"layers.0.qkv": torch.zeros(SMALL.d_model, SMALL.d_model)})
    layer = strata.get_submodule("layers.0.qkv")
    assert isinstance(layer, ScaledLinear) and torch.isfinite(layer.in_scale).all() and (layer.in_scale > 0).all()


def test_other_texts_are_nearer_to_full_precision(
    minilm: Minilm, minilm_grams: dict[str, torch.Tensor], smoothed: tuple[Strata, dict[str, torch.Tensor]]
) -> None:
    strata, tokenizer = minilm
    token_ids = tokenizer.encode_many([f"{first}, {second}" for first, second in zip(TEXTS, TEXTS[7:], strict=False)])
    full_BD = encode_many(strata, token_ids, batch_size=64)
    errors: list[float] = []
    smoothed_strata, scaled = smoothed
    versions = (
        encoder_tensors(smoothed_strata, grams=scaled),
        encoder_tensors(strata, grams=minilm_grams),
        encoder_tensors(strata),
    )
    for tensors in versions:
        encoder = QuantizedEncoder.from_tensors(strata.config, tensors)
        for precision in ("int8", "int4"):
            encode = partial(encoder.encode, precision=precision)
            z_BD = encode_many(encode, token_ids, batch_size=64)
            errors.append(1 - float((z_BD * full_BD).sum(dim=1).mean()))
    smooth8, smooth4, gptq8, gptq4, nearest8, nearest4 = errors
    assert gptq8 < 0.95 * nearest8
    assert gptq4 < 0.8 * nearest4
    assert smooth8 < 0.8 * gptq8
    assert smooth4 < 0.95 * gptq4
