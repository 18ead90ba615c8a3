"""The incremental head equals the exact solution after whatever happened, on every base."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from learner.errors import BaseRefused
from learner.fast.base_solution import BaseSolution, NormalEquations
from learner.fast.incremental import MAX_ROWS, IncrementalHead
from learner.fast.ridge import on_grid

R = 24
C = 5
M = 3
PENALTY = 2.0
TOLERANCE = 1e-4
"""The rounding of float32, times the condition number of these small sums."""

PHI = on_grid(torch.relu(torch.randn(400, R, generator=torch.Generator().manual_seed(0)))).float()


@dataclass
class Text:
    """A text that was learnt: its place in PHI, its class, and whether each memory counts its label."""

    place: int
    row: int
    counts_M: Tensor


class Stream:
    """Does the same to an incremental head and to a list of texts, which are summed in float64 and solved exactly."""

    def __init__(self) -> None:
        self.texts: list[Text] = []
        self.head = IncrementalHead(self.base(), num_memories=M)

    def base(self) -> BaseSolution:
        return NormalEquations.of(*self.sums(), PENALTY).solve()

    def sums(self) -> tuple[Tensor, Tensor]:
        phi_NR = PHI[[text.place for text in self.texts]].double()
        targets_NO = torch.zeros(len(self.texts), C * M, dtype=torch.float64)
        for number, text in enumerate(self.texts):
            targets_NO[number, text.row * M : text.row * M + M] = text.counts_M.double()
        return phi_NR.T @ phi_NR, targets_NO.T @ phi_NR

    def learn(self, places: list[int], row: int) -> None:
        self.texts += [Text(place, row, torch.ones(M, dtype=torch.bool)) for place in places]
        self.head.learn_many(PHI[places], torch.full((len(places),), row))

    def unlearn(self, number: int) -> None:
        text = self.texts.pop(number % len(self.texts))
        self.head.unlearn_many(PHI[[text.place]], torch.tensor([text.row]), text.counts_M[None])

    def relabel(self, number: int, row: int) -> None:
        text = self.texts[number % len(self.texts)]
        old_B = torch.tensor([text.row])
        self.head.relabel_many(PHI[[text.place]], old_B, torch.tensor([row]), text.counts_M[None])
        text.row = row

    def fade(self, number: int, memory: int) -> None:
        text = self.texts[number % len(self.texts)]
        leaves_M = text.counts_M & (torch.arange(M) == memory)
        self.head.fade_many(PHI[[text.place]], torch.tensor([text.row]), leaves_M[None])
        text.counts_M = text.counts_M & ~leaves_M

    def rebase(self) -> None:
        self.head = self.head.rebased(self.base(), self.head.num_rows)

    def error(self) -> float:
        """The difference from the exact solution, relative to its norm."""
        gram_RR, sums_OR = self.sums()
        exact_OR = torch.linalg.solve(gram_RR + PENALTY * torch.eye(R), sums_OR.T).T
        weights_OR = self.head.weights(torch.arange(C)).view(C * M, R)
        return float((weights_OR - exact_OR).norm() / exact_OR.norm().clamp(min=0.1))


VERBS = ("learn", "unlearn", "relabel", "fade", "rebase")

STEPS = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 399), st.integers(0, C - 1)),
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
        elif verb == "learn" or not stream.texts:
            stream.learn([number, (number + 7) % 400], row)
        elif verb == "unlearn":
            stream.unlearn(number)
        elif verb == "relabel":
            stream.relabel(number, row)
        else:
            stream.fade(number, row % M)
    assert stream.error() < TOLERANCE


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(40)), st.integers(1, 40))
def test_any_order_and_any_batches_give_the_same_weights_up_to_rounding(order: list[int], size: int) -> None:
    rows_N = torch.arange(400) % C
    whole = Stream().head
    parts = Stream().head
    whole.learn_many(PHI[:40], rows_N[:40])
    for first in range(0, 40, size):
        batch = order[first : first + size]
        parts.learn_many(PHI[batch], rows_N[batch])
    torch.testing.assert_close(parts.weights(torch.arange(C)), whole.weights(torch.arange(C)), rtol=1e-4, atol=1e-5)


def test_as_many_rows_as_there_may_be_are_exact_and_one_more_is_refused() -> None:
    stream = Stream()
    stream.learn(list(range(300, 400)), 1)
    stream.rebase()
    for row in range(C):
        stream.learn(list(range(row * 50, row * 50 + 50)), row)
    for number in range(MAX_ROWS - 250):
        stream.unlearn(number)
    assert stream.head.num_rows == MAX_ROWS
    assert stream.error() < TOLERANCE
    with pytest.raises(ValueError, match="solve the next base"):
        stream.learn([0], 0)


def test_many_classes_of_which_most_have_no_label() -> None:
    num_classes = 2_000
    rows_B = torch.arange(0, num_classes, 20)
    phi_BR = PHI[: len(rows_B)]
    head = IncrementalHead(NormalEquations.of(torch.zeros(R, R), torch.zeros(num_classes, R), PENALTY).solve())
    head.learn_many(phi_BR, rows_B)
    exact_RB = torch.linalg.solve(phi_BR.T @ phi_BR + PENALTY * torch.eye(R), phi_BR.T)
    torch.testing.assert_close(head.weights(rows_B)[:, 0], exact_RB.T, rtol=1e-4, atol=1e-5)
    assert not head.weights(torch.tensor([1, 1_999])).any()


def test_when_everything_was_taken_out_the_next_base_is_empty() -> None:
    stream = Stream()
    stream.learn([1, 2], 0)
    stream.unlearn(0)
    stream.unlearn(0)
    stream.rebase()
    assert stream.head.num_rows == 0


def test_rows_that_came_while_the_base_was_solved_follow_it() -> None:
    stream = Stream()
    stream.learn([1, 2, 3], 0)
    base = stream.base()
    num_rows = stream.head.num_rows
    stream.learn([4, 5], 1)
    stream.unlearn(0)
    stream.head = stream.head.rebased(base, num_rows)
    assert stream.head.num_rows == 3
    assert stream.error() < TOLERANCE


def test_a_base_that_lacks_a_label_is_refused() -> None:
    stream = Stream()
    stream.learn([1, 2, 3], 0)
    base = stream.base()
    stream.learn([4], 1)
    with pytest.raises(BaseRefused, match="have not seen the same labels"):
        stream.head.rebased(base, stream.head.num_rows)


def test_a_base_of_another_penalty_is_another_head_and_no_mistake() -> None:
    stream = Stream()
    stream.learn([1, 2, 3], 0)
    head = stream.head.rebased(NormalEquations.of(*stream.sums(), 2 * PENALTY).solve(), stream.head.num_rows)
    assert head.num_rows == 0


def test_a_base_with_a_nan_is_refused() -> None:
    stream = Stream()
    gram_RR, sums_OR = stream.sums()
    sums_OR[0, 0] = torch.nan
    with pytest.raises(BaseRefused):
        stream.head.rebased(NormalEquations.of(gram_RR, sums_OR, PENALTY).solve(), 0)
