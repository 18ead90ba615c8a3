"""Linear layers that share a matrix, scale their inputs, or have a low-rank pair."""

import copy

import pytest
import torch
from torch import nn

from model.linears import (
    LoraLinear,
    ScaledLinear,
    TiedLinear,
    TiedScaledLinear,
    add_lora,
    effective_weight,
    full_precision,
    is_nested,
    linear_at,
    lora_pair,
    product,
)

X_MK = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("bank", "kind"), [(nn.Linear(64, 8), TiedLinear), (ScaledLinear(64, 8), TiedScaledLinear)])
def test_a_tied_layer_has_a_bias_of_its_own(bank: nn.Linear, kind: type[TiedLinear]) -> None:
    tied = kind(bank)
    nn.init.ones_(tied.bias)
    assert torch.allclose(tied(X_MK), X_MK @ bank.weight.t() + 1.0, atol=1e-6)
    assert [name for name, _ in tied.named_parameters()] == ["bias"]
    assert list(tied.state_dict()) == ["bias"]


def test_a_tied_layer_follows_its_bank() -> None:
    bank = ScaledLinear(64, 8)
    tied = TiedScaledLinear(bank)
    bank.weight = nn.Parameter(torch.zeros(8, 64))
    bank.in_scale = torch.full((64,), 2.0)
    assert tied.weight is bank.weight
    assert tied.in_scale is bank.in_scale


def test_copies_together_are_tied_to_each_other() -> None:
    layers = nn.ModuleList([bank := nn.Linear(64, 8), TiedLinear(bank)])
    copied = copy.deepcopy(layers)
    assert linear_at(copied, "1").weight is linear_at(copied, "0").weight
    assert linear_at(copied, "1").weight is not bank.weight


@pytest.mark.parametrize("layer", [nn.Linear(64, 8), ScaledLinear(64, 8)])
def test_a_pair_begins_with_no_effect_and_then_adds_its_product(layer: nn.Linear) -> None:
    before = layer(X_MK)
    add_lora(layer, 4)
    assert torch.equal(product(X_MK, layer, full_precision), before)
    pair = lora_pair(layer)
    assert pair is not None
    nn.init.ones_(pair[1].weight)
    expected = X_MK @ effective_weight(layer).t() + layer.bias
    assert torch.allclose(product(X_MK, layer, full_precision), expected, atol=1e-5)
    assert not torch.allclose(expected, before, atol=1e-2)


def test_a_pair_reads_inputs_of_the_scale_of_its_layer() -> None:
    layer = ScaledLinear(64, 8)
    layer.in_scale.fill_(4.0)
    add_lora(layer, 4)
    pair = lora_pair(layer)
    assert pair is not None
    first, second = pair
    assert isinstance(first, ScaledLinear)
    assert first.in_scale is layer.in_scale
    assert not isinstance(second, ScaledLinear)
    assert list(first.state_dict()) == ["weight"]


def test_what_has_int4_weights_inside() -> None:
    assert is_nested(nn.Linear(64, 8))
    assert not is_nested(nn.Linear(96, 8))
    assert not is_nested(LoraLinear(64, 8))


def test_a_layer_without_a_pair_is_its_weight() -> None:
    layer = nn.Linear(64, 8)
    assert lora_pair(layer) is None
    assert effective_weight(layer) is layer.weight
