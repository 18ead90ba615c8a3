"""Bias folding does not change the function of the encoder, and moves activations nearer to zero."""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bert import fold_norm_biases
from model.ragged import RaggedBatch
from tests.model.small_encoder import TOKEN_IDS, small_strata


@given(TOKEN_IDS, st.integers(0, 1 << 20))
@settings(max_examples=20)
def test_the_function_is_the_same(token_ids: list[list[int]], seed: int) -> None:
    batch = RaggedBatch.of(token_ids)
    strata = small_strata(seed=seed)
    before_BD = strata(batch)
    assert (fold_norm_biases(strata)(batch) * before_BD).sum(dim=1).min() > 0.99999


def test_all_biases_but_the_last_norms_are_folded() -> None:
    strata = small_strata()
    last_D = strata.get_parameter("layers.1.norm2.bias").clone()
    fold_norm_biases(strata)
    norms = ["embed.norm", "layers.0.norm1", "layers.0.norm2", "layers.1.norm1"]
    assert not any(strata.get_parameter(f"{name}.bias").any() for name in norms)
    assert torch.equal(strata.get_parameter("layers.1.norm2.bias"), last_D) and last_D.any()


def test_folding_is_idempotent() -> None:
    strata = fold_norm_biases(small_strata())
    state = copy.deepcopy(strata.state_dict())
    again = fold_norm_biases(strata).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.items())


def test_the_activations_are_those_without_the_bias() -> None:
    batch = RaggedBatch.of([[1, 2, 3]])
    plain = small_strata()
    folded = fold_norm_biases(copy.deepcopy(plain))
    for layer, norm in ((0, "embed.norm"), (1, "layers.0.norm2")):
        shift_D = plain.get_parameter(f"{norm}.bias")
        x_TD = folded.encode_prefix(batch, layer)
        plain_TD = plain.encode_prefix(batch, layer)
        assert torch.allclose(x_TD + shift_D, plain_TD, atol=1e-4)
