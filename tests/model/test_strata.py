"""The encoder in full precision."""

import copy
from dataclasses import replace
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional

from model.config import LayerSpec, Span, StrataConfig
from model.errors import BadTokens, WrongShape
from model.fakequant import fake_layer
from model.linears import linear_at, lora_pair
from model.plan import build_plan
from model.ragged import RaggedBatch
from model.strata import MAX_BATCH_TOKENS, Strata, encode_many
from tests.model.small_encoder import FAMILY, SMALL, TIED, TOKEN_IDS, small_strata

STRATA = small_strata()
BATCH = RaggedBatch.of([[5, 6, 7], [1], [9, 8]])


FAMILY_STRATAS = {name: small_strata(config) for name, config in FAMILY.items()}


@pytest.mark.parametrize("strata", FAMILY_STRATAS.values(), ids=FAMILY_STRATAS)
@given(TOKEN_IDS)
@settings(max_examples=10)
def test_together_equals_one_by_one(strata: Strata, token_ids: list[list[int]]) -> None:
    together = strata(RaggedBatch.of(token_ids))
    alone = torch.cat([strata(RaggedBatch.of([ids])) for ids in token_ids])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(len(token_ids)))


@pytest.mark.parametrize("layer", range(SMALL.n_layers + 1))
def test_forward_from_the_middle_is_forward(layer: int) -> None:
    prefix = STRATA.encode_prefix(BATCH, layer)
    assert torch.equal(STRATA.forward_from(layer, prefix, BATCH.layout), STRATA(BATCH))


def test_activations_may_be_regrouped_into_another_batch() -> None:
    parts = BATCH.layout.split(STRATA.encode_prefix(BATCH, 1))
    layout = RaggedBatch.of([[0] * len(part) for part in reversed(parts)]).layout
    z_BD = STRATA.forward_from(1, layout.join(parts[::-1]), layout)
    assert torch.allclose(z_BD.flip(0), STRATA(BATCH), atol=1e-6)


def test_positions_matter() -> None:
    one, other = STRATA(RaggedBatch.of([[1, 2, 3], [3, 2, 1]]))
    assert (one - other).abs().max() > 1e-3


def test_gradients_reach_the_block_that_was_entered() -> None:
    strata = small_strata().requires_grad_()
    with torch.no_grad():
        prefix = strata.encode_prefix(BATCH, 1)
    strata.forward_from(1, prefix, BATCH.layout).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in strata.layers[1].parameters())
    assert all(parameter.grad is None for parameter in strata.layers[0].parameters())


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_that_are_not_normalised_have_the_same_direction(pooling: Literal["mean", "cls"]) -> None:
    strata = small_strata()
    strata.config = replace(SMALL, pooling=pooling, normalize=False)
    vectors_BD = strata.vectors(BATCH)
    last_BLD = BATCH.layout.split(strata.encode_prefix(BATCH, SMALL.n_layers))
    expected_BD = torch.stack([x_LD[0] if pooling == "cls" else x_LD.mean(dim=0) for x_LD in last_BLD])
    torch.testing.assert_close(vectors_BD, expected_BD)
    torch.testing.assert_close(functional.normalize(vectors_BD, dim=1), strata(BATCH))


def test_positions_begin_at_the_first_that_texts_use() -> None:
    strata = Strata(replace(SMALL, first_position=2)).eval()
    strata.load_state_dict(STRATA.state_dict())
    assert strata.embed.position is not None
    positions_PD = strata.embed.position.weight.detach()
    positions_PD[2:] = positions_PD[:-2].clone()
    assert torch.equal(strata(BATCH), STRATA(BATCH))
    with pytest.raises(BadTokens, match="a sequence has 79 tokens; expected at most 78"):
        strata(RaggedBatch.of([[1] * 79]))


def test_encode_many_goes_in_batches() -> None:
    token_ids = [[1, 2], [3], [4, 5, 6], [7], [8]]
    whole = STRATA(RaggedBatch.of(token_ids))
    assert torch.allclose(encode_many(STRATA, token_ids, batch_size=2), whole, atol=1e-6)


def test_encode_many_takes_few_long_texts_at_a_time() -> None:
    num_tokens = list[int]()

    def encode(batch: RaggedBatch) -> torch.Tensor:
        num_tokens.append(batch.layout.num_tokens)
        return torch.zeros(batch.layout.num_sequences, 1)

    token_ids = [[0] * length for length in (MAX_BATCH_TOKENS - 5, 9, 5, 2, MAX_BATCH_TOKENS + 1, 3)]
    assert len(encode_many(encode, token_ids, batch_size=64)) == 6
    assert num_tokens == [MAX_BATCH_TOKENS - 5, 16, MAX_BATCH_TOKENS + 1, 3]


def test_refuses_activations_of_another_batch() -> None:
    with pytest.raises(WrongShape, match=r"x_TD is \(5, 64\); expected \(6, 64\)"):
        STRATA.forward_from(1, torch.zeros(5, 64), BATCH.layout)


@pytest.mark.parametrize("layer", [-1, 3])
def test_refuses_layers_that_are_not_there(layer: int) -> None:
    with pytest.raises(WrongShape):
        STRATA.encode_prefix(BATCH, layer)


def test_refuses_tokens_outside_the_vocabulary() -> None:
    with pytest.raises(BadTokens):
        STRATA(RaggedBatch.of([[SMALL.vocab]]))


@pytest.mark.parametrize("config", FAMILY.values(), ids=FAMILY)
def test_parameters_are_those_of_the_plan(config: StrataConfig) -> None:
    """A shared matrix occurs once, under the name of its bank."""
    plan = build_plan(config)
    shapes = {matrix.name: (matrix.rows, matrix.columns) for matrix in plan.banks}
    for matrix in plan.matrices:
        shapes |= matrix.lora
    strata = Strata(config)
    found = {name: tuple(value.shape) for name, value in strata.named_parameters() if value.dim() == 2}
    assert {name: shape for name, shape in found.items() if name.startswith("layers.")} == {
        f"{name}.weight": shape for name, shape in shapes.items()
    }
    assert len(strata.state_dict()) == len(set(strata.state_dict()))
    again = Strata(config)
    again.load_state_dict(strata.state_dict())
    assert torch.equal(again(BATCH), strata(BATCH))


def test_layers_with_the_same_matrices_are_as_if_each_had_its_own() -> None:
    """Identity tie map = untied: the weights of the bank, copied into every layer that uses it, compute the same."""
    tied = small_strata(FAMILY["attention tied"])
    untied = Strata(replace(FAMILY["attention tied"], layers=())).eval()
    matrices = build_plan(tied.config).matrices
    state = tied.state_dict()
    for matrix in matrices:
        for part in ("weight", "in_scale"):
            if f"{matrix.name}.{part}" in state:
                state[f"{matrix.path}.{part}"] = state[f"{matrix.name}.{part}"]
    untied.load_state_dict(state)
    assert torch.equal(tied(BATCH), untied(BATCH))


def test_a_pair_of_full_rank_restores_any_matrix() -> None:
    """Full-rank LoRA = original: bank + B A is the matrix that the layer had, by B = 1 and A = W - bank."""
    original = small_strata(replace(SMALL, layers=()), seed=1)
    layers = (LayerSpec(), LayerSpec(attention=0, ffn=0, lora_rank=64))
    tied = Strata(replace(SMALL, layers=layers)).eval()
    state = {name: value for name, value in original.state_dict().items() if name in tied.state_dict()}
    tied.load_state_dict(state, strict=False)
    for matrix in build_plan(tied.config).blocks[1].matrices:
        layer = linear_at(tied, matrix.path)
        residual_NK = linear_at(original, matrix.path).weight - layer.weight
        first, second = residual_NK.shape
        left, size, right = torch.linalg.svd(residual_NK, full_matrices=False)
        lora = lora_pair(layer)
        assert lora is not None and min(first, second) <= matrix.lora_rank
        lora[0].weight.data = right
        lora[1].weight.data = left * size
    assert torch.allclose(tied(BATCH), original(BATCH), atol=1e-5)


def test_a_new_pair_changes_nothing() -> None:
    plain = Strata(replace(FAMILY["tied"], layers=(LayerSpec(), replace(TIED, lora_rank=0)))).eval()
    tied = Strata(FAMILY["tied"]).eval()
    tied.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(tied(BATCH), plain(BATCH))


@pytest.mark.parametrize("span", [Span(kind="local", window=79), Span(kind="topk", topk=10, block=8)])
def test_a_span_over_all_keys_is_full(span: Span) -> None:
    wide = Strata(replace(SMALL, spans=(span,), layers=(LayerSpec(spans=((4, 0),)),) * 2)).eval()
    wide.load_state_dict(STRATA.state_dict())
    batch = RaggedBatch.of([list(range(60)) + [1] * 20, [4, 5]])
    assert torch.allclose(wide(batch), STRATA(batch), atol=1e-5)


def test_rotations_take_the_place_of_positions() -> None:
    strata = small_strata(FAMILY["rope"])
    one, other = strata(RaggedBatch.of([[1, 2, 3], [3, 2, 1]]))
    assert (one - other).abs().max() > 1e-3
    assert "embed.position.weight" not in strata.state_dict()


def test_gradients_of_a_shared_matrix_come_from_every_layer() -> None:
    strata = small_strata(FAMILY["tied"]).requires_grad_()
    strata(BATCH).sum().backward()
    names = {name for name, parameter in strata.named_parameters() if parameter.grad is None}
    assert not names - {"embed.segment.weight"}
    assert "layers.1.qkv.weight" not in dict(strata.named_parameters())


@pytest.mark.parametrize("name", ["modernbert", "gemma", "eurobert", "pre-norm tied"])
def test_training_against_the_rounding_reaches_every_parameter_of_a_block(name: str) -> None:
    strata = small_strata(FAMILY[name]).requires_grad_()
    x_TD = strata.encode_prefix(BATCH, 0).detach()
    z_BD = strata.forward_from(0, x_TD, BATCH.layout, linear=fake_layer)
    # A sum of squares of unit vectors would be constant.
    torch.autograd.backward(z_BD[:, 0].sum())
    for path, parameter in strata.layers.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), path


def test_a_copy_is_tied_within_itself() -> None:
    strata = small_strata(FAMILY["tied"])
    copied = copy.deepcopy(strata)
    with torch.no_grad():
        copied.get_parameter("layers.0.up.weight").zero_()
    assert linear_at(copied, "layers.1.up").weight.abs().max() == 0
    assert linear_at(strata, "layers.1.up").weight.abs().max() > 0
