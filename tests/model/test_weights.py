"""An encoder as stored weights, and back."""

from dataclasses import replace
from math import prod

import pytest
import torch

from model.errors import MissingWeight, WrongShape
from model.ragged import RaggedBatch
from model.weights import check_encoder, encoder_key, encoder_names, encoder_tensors, to_strata
from tests.model.small_encoder import SMALL, small_strata

STRATA = small_strata()
TENSORS = encoder_tensors(STRATA)


def test_names_are_the_contract() -> None:
    block = ("qkv", "out", "norm1", "up", "down", "norm2")
    embed = ("embed.word", "embed.position", "embed.type", "embed.norm")
    blocks = [f"layers.0.{part}" for part in block] + [f"layers.1.{part}" for part in block]
    assert list(TENSORS) == [*embed, *blocks]
    assert all(tensor.name == name for name, tensor in TENSORS.items())


def test_every_parameter_is_stored() -> None:
    biases = [tensor.bias for tensor in TENSORS.values() if tensor.bias is not None]
    stored = sum(prod(tensor.shape) for tensor in TENSORS.values()) + sum(bias.numel() for bias in biases)
    assert stored == sum(parameter.numel() for parameter in STRATA.parameters())


def test_blocks_are_nested_and_the_rest_is_not() -> None:
    schemes = {name: tensor.scheme for name, tensor in TENSORS.items() if tensor.scheme != "fp32"}
    assert schemes == {name: "n8g64" if name.startswith("layers.") else "w8c" for name in schemes}


def test_round_trip_is_stable() -> None:
    """Served weights can be trained further, and an unchanged weight keeps its bytes."""
    again = encoder_tensors(to_strata(SMALL, TENSORS))
    assert all(again[name].to_blob() == tensor.to_blob() for name, tensor in TENSORS.items())


def test_restored_encoder_is_near_the_original() -> None:
    batch = RaggedBatch.of([[1, 2, 3, 4], [5], [6, 7, 8]])
    cosine_B = (to_strata(SMALL, TENSORS)(batch) * STRATA(batch)).sum(dim=1)
    assert cosine_B.min() > 0.999


def test_restored_encoder_owns_its_parameters() -> None:
    strata = to_strata(SMALL, TENSORS)
    with torch.no_grad():
        for parameter in strata.parameters():
            parameter.zero_()
    assert TENSORS["layers.0.norm1"].parts["value"].abs().max() > 0
    assert not strata.training and all(parameter.requires_grad for parameter in strata.parameters())


def test_only_the_top_blocks() -> None:
    top = encoder_tensors(STRATA, first_layer=1)
    assert list(top) == [name for name in TENSORS if name.startswith("layers.1.")]
    assert encoder_tensors(STRATA, first_layer=SMALL.n_layers) == {}


def test_missing_weight_is_named() -> None:
    rest = {name: tensor for name, tensor in TENSORS.items() if name != "layers.1.down"}
    with pytest.raises(MissingWeight, match=r"^layers\.1\.down is missing; expected n8g64 \[64, 128\]$"):
        check_encoder(SMALL, rest)


def test_wrong_shape_and_scheme_are_named() -> None:
    with pytest.raises(WrongShape, match=r"embed\.word is w8c \[60, 64\]; expected w8c \[61, 64\]"):
        check_encoder(replace(SMALL, vocab=61), TENSORS)
    swapped = TENSORS | {"embed.norm": TENSORS["embed.word"]}
    with pytest.raises(WrongShape, match=r"embed\.norm is w8c \[60, 64\]; expected fp32 \[2, 64\]"):
        check_encoder(SMALL, swapped)


def test_encoder_key_is_the_encoders_alone() -> None:
    digests = {name: name for name in encoder_names(SMALL)}
    reordered = dict(reversed(digests.items())) | {"head.out": "x"}
    assert encoder_key(digests) == encoder_key(reordered)
    assert encoder_key(digests) != encoder_key(digests | {"layers.0.up": "changed"})
