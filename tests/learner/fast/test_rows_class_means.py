"""The cached class means equal means computed from the sums, bit for bit, whichever rows were touched when."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from learner.fast.rows import ClassMeans, nearest

NUM_ROWS = 40
SUMS_CD = torch.randn(NUM_ROWS, 384, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@given(st.lists(st.sets(st.integers(0, NUM_ROWS - 1)), min_size=1, max_size=8))
def test_rows_that_were_touched_are_those_of_all_computed_at_once(touched: list[set[int]]) -> None:
    def compute(rows_N: Tensor) -> Tensor:
        return normalize(SUMS_CD[rows_N], dim=1).float()

    means = ClassMeans(384, compute)
    for rows in touched:
        means.touch(rows)
        means.first(3)
    every = set().union(*touched)
    is_touched_C = torch.tensor([row in every for row in range(NUM_ROWS)])
    expected_CD = normalize(SUMS_CD, dim=1).float() * is_touched_C[:, None]
    assert torch.equal(means.first(NUM_ROWS), expected_CD)


def test_only_touched_rows_are_computed() -> None:
    asked: list[list[int]] = []

    def compute(rows_N: Tensor) -> Tensor:
        asked.append(rows_N.tolist())
        return torch.ones(len(rows_N), 2)

    means = ClassMeans(2, compute)
    means.touch([4, 1])
    assert means.first(2).tolist() == [[0, 0], [1, 1]]
    assert means.first(5).sum() == 4
    assert asked == [[1, 4]]


def test_texts_are_predicted_by_all_labels_and_by_the_newest() -> None:
    z_BD = normalize(torch.tensor([[1.0, 0.2], [0.0, 1.0]]), dim=1)
    by_all_CD = torch.eye(2)
    found = nearest(z_BD, ["first", "second"], by_all_CD, by_all_CD.flip(0))
    assert (found.by_all, found.by_newest) == (["first", "second"], ["second", "first"])
    assert torch.equal(found.distances_B, 1 - z_BD.amax(dim=1))
    assert nearest(z_BD, ["first", "second"], by_all_CD, None).by_newest == found.by_all
