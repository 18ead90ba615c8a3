"""What a delta has is what the whole head would have in its rows, and what it leaves out has hardly moved."""

import pytest
import torch
from torch import Tensor

from learner.fast.base_solution import BaseSolution, NormalEquations
from learner.fast.incremental import IncrementalHead
from learner.fast.ridge import on_grid, row_scales
from learner.fast.row_delta import CODE_UNIT, MOVED, RowDelta, SentRows, row_delta
from model.errors import NonFinite
from model.quantize import quantize_w8c

R = 24
C = 40
RNG = torch.Generator().manual_seed(0)
CENTRES = 2 * torch.relu(torch.randn(C, R, generator=RNG))


def texts(rows_B: Tensor) -> Tensor:
    return on_grid(torch.relu(CENTRES[rows_B] + 0.3 * torch.randn(len(rows_B), R, generator=RNG))).float()


def base_of_all() -> BaseSolution:
    """Four hundred texts of each class."""
    rows_N = torch.arange(C).repeat(400)
    phi_NR = texts(rows_N).double()
    sums_CR = torch.zeros(C, R, dtype=torch.float64).index_add_(0, rows_N, phi_NR)
    return NormalEquations.of(phi_NR.T @ phi_NR, sums_CR, 1.0).solve()


def test_what_is_left_out_has_hardly_moved_however_many_batches_came() -> None:
    head = IncrementalHead(base_of_all())
    sent = SentRows(head)
    replica_CR = head.weights(torch.arange(C))[:, 0]
    nums_sent = []
    for _ in range(20):
        rows_B = torch.randint(3, (5,), generator=RNG)
        head.learn_many(texts(rows_B), rows_B)
        rows_C = sent.stale(rows_B, bound=MOVED)
        weights_CMR = head.weights(rows_C)
        sent.mark(rows_C, weights_CMR)
        replica_CR[rows_C] = weights_CMR[:, 0]
        nums_sent.append(len(rows_C))
        now_CR = head.weights(torch.arange(C))[:, 0]
        moved_C = (now_CR - replica_CR).norm(dim=1) / replica_CR.norm(dim=1)
        assert float(moved_C.max()) < 1.01 * MOVED
        assert set(rows_B.tolist()) <= set(rows_C.tolist())
    assert min(nums_sent) < C


def test_nothing_has_moved_where_nothing_came() -> None:
    sent = SentRows(IncrementalHead(base_of_all()))
    assert sent.stale(torch.tensor([], dtype=torch.int64), bound=MOVED).tolist() == []
    assert sent.stale(torch.tensor([7, 3]), bound=MOVED).tolist() == [3, 7]


def test_a_class_that_moves_in_one_memory_is_sent_in_all() -> None:
    head = IncrementalHead(BaseSolution(1.0, torch.eye(R), torch.ones(2 * C, R)), num_memories=2)
    head.fade_many(texts(torch.tensor([4])), torch.tensor([4]), torch.tensor([[False, True]]))
    assert SentRows(head).stale(torch.tensor([], dtype=torch.int64), bound=MOVED).tolist() == [4]


def served(delta: RowDelta) -> Tensor:
    scales_C = delta.codes.parts["scale"].float() * delta.factors_C[delta.rows_C]
    return delta.codes.q_NK * scales_C[:, None]


def test_rows_are_rounded_as_a_release_rounds_them() -> None:
    rows_C = torch.tensor([2, 5])
    weights_CR = 1e-3 * torch.randn(2, R, generator=RNG)
    factors_C = row_scales(torch.arange(C), typical=4.0) / 0.05
    delta = row_delta(rows_C, weights_CR, factors_C)
    whole = quantize_w8c("head.out", weights_CR / CODE_UNIT)
    assert torch.equal(delta.codes.q_NK, whole.q_NK)
    exact_CR = weights_CR * factors_C[rows_C, None]
    steps_C = exact_CR.abs().amax(dim=1) / 127
    assert bool(((served(delta) - exact_CR).abs() <= 0.51 * steps_C[:, None]).all())


def test_another_count_or_temperature_changes_no_code() -> None:
    weights_CR = 1e-3 * torch.randn(C, R, generator=RNG)
    first = row_delta(torch.arange(C), weights_CR, row_scales(torch.full((C,), 3), typical=4.0) / 0.05)
    second = row_delta(torch.arange(C), weights_CR, row_scales(torch.full((C,), 300), typical=50.0) / 0.06)
    assert all(torch.equal(part, second.codes.parts[name]) for name, part in first.codes.parts.items())
    assert not torch.equal(first.factors_C, second.factors_C)


def test_weights_that_are_not_finite_make_no_delta() -> None:
    with pytest.raises(NonFinite):
        row_delta(torch.tensor([0]), torch.full((1, R), torch.nan), torch.ones(C))
