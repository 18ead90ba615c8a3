"""The encoder in full precision."""

import pytest
import torch
from hypothesis import given, settings

from model.errors import BadTokens, WrongShape
from model.ragged import RaggedBatch
from model.strata import encode_many
from tests.model.small_encoder import SMALL, TOKEN_IDS, small_strata

STRATA = small_strata()
BATCH = RaggedBatch.of([[5, 6, 7], [1], [9, 8]])


@given(TOKEN_IDS)
@settings(max_examples=25)
def test_together_equals_one_by_one(token_ids: list[list[int]]) -> None:
    together = STRATA(RaggedBatch.of(token_ids))
    alone = torch.cat([STRATA(RaggedBatch.of([ids])) for ids in token_ids])
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


def test_encode_many_goes_in_batches() -> None:
    token_ids = [[1, 2], [3], [4, 5, 6], [7], [8]]
    whole = STRATA(RaggedBatch.of(token_ids))
    assert torch.allclose(encode_many(STRATA, token_ids, batch_size=2), whole, atol=1e-6)


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
