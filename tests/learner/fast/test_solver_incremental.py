"""The incremental head equals the exact solution, after any rows on any base."""

from itertools import chain, combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from learner.errors import BaseRefused
from learner.fast.fast_head import MAX_ROWS
from learner.fast.ridge import BaseSolution, NormalEquations, on_grid
from learner.fast.rows import ClassRows
from learner.fast.solver import IncrementalHead
from lifelong.plugins.kinds.sets import join_names
from model.kinds import Entries

R = 24
C = 5
PENALTY = 2.0
TOLERANCE = 1e-4
"""The rounding of float32, times the condition number of these small sums."""

PHI = on_grid(torch.relu(torch.randn(400, R, generator=torch.Generator().manual_seed(0)))).float()


class Stream:
    """Teaches an incremental head, and a list of (place in PHI, class) that is summed in float64 and solved exactly."""

    def __init__(self) -> None:
        self.texts: list[tuple[int, int]] = []
        self.head = IncrementalHead(self.base())

    def base(self) -> BaseSolution:
        return NormalEquations.of(*self.sums(), PENALTY).solve()

    def sums(self) -> tuple[Tensor, Tensor]:
        phi_NR = PHI[[place for place, _ in self.texts]].double()
        one_hot_NC = torch.eye(C, dtype=torch.float64)[[row for _, row in self.texts]]
        return phi_NR.T @ phi_NR, one_hot_NC.T @ phi_NR

    def learn(self, places: list[int], row: int) -> None:
        self.texts += [(place, row) for place in places]
        self.head.learn_many(PHI[places], Entries(torch.full((len(places),), row)))

    def rebase(self) -> None:
        self.head = IncrementalHead(self.base())

    def error(self) -> float:
        """The difference from the exact solution, relative to its norm."""
        gram_RR, sums_CR = self.sums()
        exact_CR = torch.linalg.solve(gram_RR + PENALTY * torch.eye(R), sums_CR.T).T
        weights_CR = self.head.weights(torch.arange(C))
        return float((weights_CR - exact_CR).norm() / exact_CR.norm().clamp(min=0.1))


STEPS = st.lists(
    st.tuples(st.sampled_from(("learn", "rebase")), st.integers(0, 399), st.integers(0, C - 1)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_any_labels_give_the_exact_solution(steps: list[tuple[str, int, int]]) -> None:
    stream = Stream()
    for verb, number, row in steps:
        if verb == "rebase":
            stream.rebase()
        else:
            stream.learn([number, (number + 7) % 400], row)
    assert stream.error() < TOLERANCE


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(40)), st.integers(1, 40))
def test_any_order_and_any_batches_give_the_same_weights_up_to_rounding(order: list[int], size: int) -> None:
    rows_N = torch.arange(400) % C
    whole = Stream().head
    parts = Stream().head
    whole.learn_many(PHI[:40], Entries(rows_N[:40]))
    for first in range(0, 40, size):
        batch = order[first : first + size]
        parts.learn_many(PHI[batch], Entries(rows_N[batch]))
    torch.testing.assert_close(parts.weights(torch.arange(C)), whole.weights(torch.arange(C)), rtol=1e-4, atol=1e-5)


def test_as_many_rows_as_there_may_be_are_exact_and_one_more_is_refused() -> None:
    stream = Stream()
    stream.learn(list(range(300, 400)), 1)
    stream.rebase()
    for row in range(C):
        stream.learn(list(range(row * 50, row * 50 + 50)), row)
    stream.learn(list(range(MAX_ROWS - 250)), 0)
    assert stream.head.num_rows == MAX_ROWS
    assert stream.error() < TOLERANCE
    with pytest.raises(ValueError, match="solve the next base"):
        stream.learn([0], 0)


def test_many_classes_of_which_most_have_no_label() -> None:
    num_classes = 2_000
    rows_B = torch.arange(0, num_classes, 20)
    phi_BR = PHI[: len(rows_B)]
    head = IncrementalHead(NormalEquations.of(torch.zeros(R, R), torch.zeros(num_classes, R), PENALTY).solve())
    head.learn_many(phi_BR, Entries(rows_B))
    exact_RB = torch.linalg.solve(phi_BR.T @ phi_BR + PENALTY * torch.eye(R), phi_BR.T)
    torch.testing.assert_close(head.weights(rows_B), exact_RB.T, rtol=1e-4, atol=1e-5)
    assert not head.weights(torch.tensor([1, 1_999])).any()


def test_the_next_base_is_that_of_the_rows_so_far() -> None:
    stream = Stream()
    stream.learn([1, 2, 3], 0)
    base = stream.base()
    num_rows = stream.head.num_rows
    stream.learn([4, 5], 1)
    stream.head.check_base(base, num_rows)


def test_a_base_that_lacks_a_label_is_refused() -> None:
    stream = Stream()
    stream.learn([1, 2, 3], 0)
    base = stream.base()
    stream.learn([4], 1)
    with pytest.raises(BaseRefused, match="contain different labels"):
        stream.head.check_base(base, stream.head.num_rows)


def test_few_very_frequent_texts_raise_no_alarm() -> None:
    """Events of a few categories: rounding in directions without texts must not count as a lost label."""
    phi_12R = on_grid(torch.relu(torch.randn(12, 4 * R, generator=torch.Generator().manual_seed(1))))
    rows_12 = torch.arange(12) % C
    often = 100_000
    gram_RR = often * phi_12R.T @ phi_12R
    sums_CR = torch.zeros(C, 4 * R, dtype=torch.float64).index_add_(0, rows_12, often * phi_12R)
    head = IncrementalHead(NormalEquations.of(gram_RR, sums_CR, 150.0).solve())
    for first in range(0, MAX_ROWS, 32):
        phi_BR = phi_12R[torch.arange(first, first + 32) % 12]
        entries = Entries(torch.arange(first, first + 32) % 7 % C)
        head.learn_many(phi_BR, entries)
        gram_RR += phi_BR.T @ phi_BR
        sums_CR.index_add_(0, entries.rows_E, phi_BR)
    head.check_base(NormalEquations.of(gram_RR, sums_CR, 150.0).solve(), MAX_ROWS)


def test_a_base_with_another_penalty_differs_without_an_alarm() -> None:
    stream = Stream()
    stream.learn([1, 2, 3], 0)
    stream.head.check_base(NormalEquations.of(*stream.sums(), 2 * PENALTY).solve(), stream.head.num_rows)


def test_a_base_with_a_nan_is_refused() -> None:
    stream = Stream()
    gram_RR, sums_CR = stream.sums()
    sums_CR[0, 0] = torch.nan
    with pytest.raises(BaseRefused):
        stream.head.check_base(NormalEquations.of(gram_RR, sums_CR, PENALTY).solve(), 0)


def test_texts_with_several_classes_or_none_are_exact() -> None:
    """A set of labels is a 1 for each of its classes, in the sums and in the rows since."""
    rows = ClassRows(C, [str(row) for row in range(C)])
    sets = chain.from_iterable(combinations("01234", size) for size in range(C + 1))
    names = list(map("".join, sets))
    entries = rows.entries([join_names(each) for each in names])
    targets_NC = entries.targets(32, C)
    assert targets_NC.sum(dim=1).tolist() == list(map(len, names))
    head = IncrementalHead(NormalEquations.of(torch.zeros(R, R), torch.zeros(C, R), PENALTY).solve())
    head.learn_many(PHI[:32], entries)
    exact_CR = torch.linalg.solve(PHI[:32].T @ PHI[:32] + PENALTY * torch.eye(R), PHI[:32].T @ targets_NC).T
    torch.testing.assert_close(head.weights(torch.arange(C)), exact_CR, rtol=1e-4, atol=1e-5)
