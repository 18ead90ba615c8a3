"""Ragged batches: sequences are laid out as one row of tokens, and results return to the caller's order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.errors import BadTokens
from model.ragged import RaggedBatch, RaggedLayout
from tests.model.small_encoder import SMALL, TOKEN_IDS

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def test_layout_of_three() -> None:
    batch = RaggedBatch.of([[7, 8, 9], [5], [3, 4]])
    assert batch.ids_T.tolist() == [5, 3, 4, 7, 8, 9]
    assert batch.positions_T.tolist() == [0, 0, 1, 0, 1, 2]
    assert batch.offsets == (0, 1, 3, 6)
    assert batch.layout.order == (1, 2, 0)
    assert (batch.layout.num_sequences, batch.layout.num_tokens) == (3, 6)


@given(TOKEN_IDS)
def test_split_gives_the_callers_sequences(token_ids: list[list[int]]) -> None:
    batch = RaggedBatch.of(token_ids)
    assert [part.tolist() for part in batch.layout.split(batch.ids_T)] == token_ids


@given(LENGTHS)
def test_join_undoes_split(lengths: list[int]) -> None:
    layout = RaggedLayout.of(lengths)
    x_TD = torch.arange(2.0 * layout.num_tokens).view(-1, 2)
    assert torch.equal(layout.join(layout.split(x_TD)), x_TD)


@given(LENGTHS)
def test_pooled_rows_are_restored_to_the_callers_order(lengths: list[int]) -> None:
    layout = RaggedLayout.of(lengths)
    x_TD = torch.arange(3.0 * layout.num_tokens).view(-1, 3)
    means = layout.restore(layout.pooled(x_TD, "mean"))
    expected = torch.stack([part.mean(dim=0) for part in layout.split(x_TD)])
    assert torch.allclose(means, expected)
    first = layout.restore(layout.pooled(x_TD, "cls"))
    assert torch.equal(first, torch.stack([part[0] for part in layout.split(x_TD)]))


@given(TOKEN_IDS, st.integers(1, 200))
def test_pieces_are_the_whole(token_ids: list[list[int]], max_tokens: int) -> None:
    batch = RaggedBatch.of(token_ids)
    pieces = batch.pieces(max_tokens)
    assert torch.equal(torch.cat([piece.ids_T for piece in pieces]), batch.ids_T)
    assert torch.equal(torch.cat([piece.positions_T for piece in pieces]), batch.positions_T)
    for piece in pieces:
        assert piece.layout.num_tokens <= max_tokens or piece.layout.num_sequences == 1
        assert len(pieces) == 1 or piece.layout.order == tuple(range(piece.layout.num_sequences))


@pytest.mark.parametrize("token_ids", [[], [[]], [[1], []]])
def test_refuses_empty_batches_and_sequences(token_ids: list[list[int]]) -> None:
    with pytest.raises(BadTokens, match="expected at least one sequence, of at least one token"):
        RaggedBatch.of(token_ids)


@pytest.mark.parametrize(
    ("token_ids", "message"),
    [
        ([[1, -1]], r"token ids lie in \[-1, 1\]; expected \[0, 59\]"),
        ([[60], [0]], r"token ids lie in \[0, 60\]"),
        ([[0] * 81, [0]], "a sequence has 81 tokens; expected at most 80"),
    ],
)
def test_check_names_what_is_wrong(token_ids: list[list[int]], message: str) -> None:
    with pytest.raises(BadTokens, match=message):
        RaggedBatch.of(token_ids).check(SMALL.vocab, SMALL.max_pos)
