"""The Gram matrix contains each added row once, in any batching."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from learner.fast.ridge import FOLD_ROWS, NUM_STRIPS, GramMatrix, on_grid

NUM_FEATURES = 3 * NUM_STRIPS + 5
"""Not a multiple of NUM_STRIPS, so that the strips have different sizes."""

ROWS = on_grid(torch.rand(3 * FOLD_ROWS, NUM_FEATURES, generator=torch.Generator().manual_seed(0)))


def compute_gram(*pieces: Tensor) -> GramMatrix:
    gram = GramMatrix(NUM_FEATURES)
    for rows in pieces:
        gram.add(rows)
    return gram


@given(st.permutations(range(len(ROWS))), st.lists(st.integers(0, len(ROWS)), max_size=5))
def test_it_is_the_product_of_all_rows_in_any_order_and_pieces(order: list[int], cuts: list[int]) -> None:
    pieces = ROWS[order].tensor_split(sorted(cuts))
    assert torch.equal(compute_gram(*pieces).symmetric(), ROWS.T @ ROWS)


@pytest.mark.parametrize("num_removed", [1, FOLD_ROWS + 1, len(ROWS)])
def test_rows_are_unlearnt_exactly(num_removed: int) -> None:
    gram = compute_gram(ROWS)
    gram.remove(ROWS[:num_removed])
    assert torch.equal(gram.symmetric(), ROWS[num_removed:].T @ ROWS[num_removed:])


def test_rows_that_are_still_collected_are_part_of_the_matrix() -> None:
    few = ROWS[: FOLD_ROWS - 1]
    assert torch.equal(compute_gram(few).lower_RR.tril(), (few.T @ few).tril())


def test_a_copy_does_not_follow() -> None:
    gram = compute_gram(ROWS[:5])
    copied = gram.copy()
    gram.add(ROWS[5:])
    assert torch.equal(copied.symmetric(), ROWS[:5].T @ ROWS[:5])
    assert torch.equal(gram.symmetric(), ROWS.T @ ROWS)


def test_a_restored_matrix_goes_on_like_the_one_that_was_exported() -> None:
    triangle = compute_gram(ROWS[:70]).export()
    assert triangle.shape == (NUM_FEATURES * (NUM_FEATURES + 1) // 2,)
    restored = compute_gram(ROWS)
    restored.restore(triangle)
    restored.add(ROWS[70:])
    assert torch.equal(restored.symmetric(), ROWS.T @ ROWS)


def test_a_matrix_is_added() -> None:
    gram = compute_gram(ROWS[:9])
    gram.add_matrix(ROWS[9:].T @ ROWS[9:])
    assert torch.equal(gram.symmetric(), ROWS.T @ ROWS)
