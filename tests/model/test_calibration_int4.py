"""An encoder in INT4 alone: the stored values are the values of the encoder, and the encoder is small."""

import torch

from model.calibration import int4_modules, to_int4, to_nested, trainable
from model.grid import find_grid
from model.qtensor import W4G64, QTensor
from model.quantized import INT4, QuantizedEncoder
from model.ragged import RaggedBatch
from model.weights import encoder_tensors, to_strata
from tests.model.small_encoder import SMALL, small_strata

STRATA = small_strata()
UP = "layers.0.up.weight"
BATCH = RaggedBatch.of([[5, 6, 7], [1], [9, 8]])


def num_bytes(tensors: dict[str, QTensor]) -> int:
    return sum(len(tensor.to_blob()) for tensor in tensors.values())


def test_matrices_and_token_embeddings_are_int4() -> None:
    tensors = encoder_tensors(to_int4(STRATA))
    schemes = {name: tensor.scheme for name, tensor in tensors.items()}
    int4 = [name for name, scheme in schemes.items() if scheme == W4G64]
    assert int4 == ["embed.word", *(f"layers.{i}.{part}" for i in (0, 1) for part in ("qkv", "out", "up", "down"))]
    assert num_bytes(tensors) < 0.75 * num_bytes(encoder_tensors(STRATA))


def test_what_is_stored_is_what_was_made() -> None:
    strata = to_int4(STRATA)
    tensors = encoder_tensors(strata)
    for name, module in int4_modules(strata).items():
        assert torch.equal(tensors[name].dequantize(), module.weight)
    again = encoder_tensors(to_strata(SMALL, tensors))
    assert all(again[name].to_blob() == tensor.to_blob() for name, tensor in tensors.items())


def test_it_serves_and_is_near_full_precision() -> None:
    encoder = QuantizedEncoder.from_tensors(SMALL, encoder_tensors(to_int4(STRATA)))
    assert encoder.precisions == (INT4,)
    assert (encoder.encode(BATCH) * STRATA(BATCH)).sum(dim=1).min() > 0.9


def test_token_embeddings_are_not_trained() -> None:
    every = set(dict(STRATA.requires_grad_().named_parameters()))
    int4 = to_int4(STRATA)
    names = set(trainable(int4))
    assert every - names == {"embed.word.weight"}
    assert names - every == {f"layers.{i}.{part}.grid.shift_N" for i in (0, 1) for part in ("qkv", "out", "up", "down")}
    assert set(trainable(STRATA)) == every
    STRATA.requires_grad_(False)
    assert not trainable(STRATA)


def test_the_source_is_left_as_it_was() -> None:
    before = {name: value.clone() for name, value in STRATA.state_dict().items()}
    to_int4(STRATA)
    to_nested(STRATA)
    assert all(torch.equal(value, before[name]) for name, value in STRATA.state_dict().items())


def test_gram_matrices_weigh_the_errors() -> None:
    weights = to_int4(STRATA).get_parameter(UP)
    gram_KK = torch.eye(64) + torch.ones(64, 64)
    assert not torch.equal(to_int4(STRATA, {"layers.0.up": gram_KK}).get_parameter(UP), weights)


def test_int8_comes_first_with_the_same_weights() -> None:
    nested = to_nested(STRATA)
    assert torch.equal(nested.get_parameter(UP), STRATA.get_parameter(UP))
    stored = encoder_tensors(STRATA)
    assert all(tensor.to_blob() == stored[name].to_blob() for name, tensor in encoder_tensors(nested).items())
    grid = find_grid(to_int4(nested).get_submodule("layers.0.up"))
    assert grid is not None and grid.scheme == W4G64
