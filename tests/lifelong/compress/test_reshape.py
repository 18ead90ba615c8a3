"""Repeated positions."""

from dataclasses import replace

import pytest
import torch

from lifelong.compress.reshape import TABLE, WINDOW, repeat_positions
from model.config import Span
from model.errors import WrongConfig
from model.ragged import RaggedBatch
from tests.lifelong.compress.members import DENSE, dense_strata, largest_difference

LONG = 500


def test_texts_that_fitted_before_have_the_same_vectors() -> None:
    strata = dense_strata()
    assert largest_difference(strata, repeat_positions(strata, LONG)) < 1e-6


@pytest.mark.parametrize("first", [0, 2])
def test_every_repetition_has_the_learned_positions(first: int) -> None:
    strata = dense_strata(replace(DENSE, first_position=first))
    longer = repeat_positions(strata, LONG)
    learned, table = (each.state_dict()[TABLE] for each in (strata, longer))
    size = strata.config.max_sequence
    assert longer.config.max_sequence == LONG == len(table) - first
    assert torch.equal(table[: len(learned)], learned)
    for place in (size, 3 * size, LONG - 1):
        assert torch.equal(table[first + place], learned[first + place % size])


@torch.no_grad()
def test_a_long_text_is_read_to_its_end_and_a_token_sees_its_window() -> None:
    longer = repeat_positions(dense_strata(), LONG)
    texts = [[1, *[7] * (LONG - 2), last] for last in (2, 44)]
    batch = RaggedBatch.of(texts)
    one, other = longer(batch)
    assert not torch.equal(one, other)
    x_TD, layout = longer.encode_prefix(batch, longer.config.n_layers), batch.layout
    assert layout is not None
    reach = WINDOW * longer.config.n_layers
    differs = (x_TD[:LONG] != x_TD[LONG:]).any(dim=1)
    assert differs[-1]
    assert not differs[: LONG - 1 - reach].any()


def test_a_given_span_applies_to_long_texts_only() -> None:
    span = Span(kind="topk", window=4, block=8, topk=2, dense_below=3)
    strata = dense_strata()
    longer = repeat_positions(strata, LONG, span)
    assert longer.config.spans == (replace(span, dense_below=strata.config.max_sequence + 1),)
    assert largest_difference(strata, longer) < 1e-6


def test_an_encoder_whose_positions_cannot_be_repeated_is_refused() -> None:
    strata = dense_strata()
    with pytest.raises(WrongConfig, match="expected more than the 40 that are there"):
        repeat_positions(strata, 40)
    with pytest.raises(WrongConfig, match="repeat the positions first"):
        repeat_positions(dense_strata(DENSE.with_span(Span(kind="local", window=8))), 80)
    with pytest.raises(WrongConfig, match="positions are rope"):
        repeat_positions(dense_strata(replace(DENSE, positions="rope")), 80)
