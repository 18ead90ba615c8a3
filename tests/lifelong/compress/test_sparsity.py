"""Gradual pruning: the schedule, the blocks that stay, and the weights that a step leaves as they are."""

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.sparse_i8.reference import cut, expand
from lifelong.compress.distillation import DistillOptions, resume, write_checkpoint
from lifelong.compress.sparsity import (
    SparseDistiller,
    Sparsity,
    attach_sparse_grids,
    feed_forward_matrices,
    most_important,
    share_at,
)
from model.errors import WrongConfig
from model.linears import linear_at
from model.plan import build_plan
from model.sparse import BCSR
from model.weights import encoder_tensors
from tests.lifelong.compress.members import DENSE, TOKEN_IDS, dense_strata

OPTIONS = DistillOptions(steps=40, batch=3, rate=1e-3)
SHARE = 0.75


def pruning(options: DistillOptions = OPTIONS) -> SparseDistiller:
    student = dense_strata().requires_grad_(True)
    moments = {matrix.name: torch.ones(matrix.columns) for matrix in build_plan(DENSE).banks}
    return SparseDistiller(student, dense_strata(), TOKEN_IDS, options, Sparsity(share=SHARE, moments=moments))


@given(st.integers(1, 400), st.floats(0.01, 0.99))
def test_the_share_rises_to_its_goal_and_stays(num_steps: int, share: float) -> None:
    shares = [share_at(step, num_steps, share) for step in range(num_steps + 1)]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == pytest.approx(share)


@given(st.integers(1, 4), st.integers(1, 8), st.floats(0, 1), st.integers(0, 1 << 30))
@settings(max_examples=50)
def test_the_most_important_blocks_stay(num_groups: int, num_quads: int, share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    w_NK = torch.randn(16 * num_groups, 4 * num_quads, generator=generator)
    moments_K = torch.rand(4 * num_quads, generator=generator)
    mask_GQ = most_important(w_NK, moments_K, share)
    num_blocks = num_groups * num_quads
    assert int(mask_GQ.sum()) == max(num_blocks - round(share * num_blocks), 1)
    effects_GQ = cut(w_NK.square() * moments_K).sum(dim=(2, 3))
    if not mask_GQ.all():
        assert effects_GQ[mask_GQ].min() >= effects_GQ[~mask_GQ].max()


def test_an_input_that_is_always_small_matters_little() -> None:
    w_NK = torch.ones(16, 8)
    assert most_important(w_NK, torch.tensor([1.0] * 4 + [2.0] * 4), 0.5).tolist() == [[False, True]]


def test_blocks_become_zero_while_the_student_learns() -> None:
    distiller = pruning()
    zero: list[float] = []
    losses: list[float] = []
    while not distiller.is_done:
        losses.append(distiller.step().layers)
        weight = linear_at(distiller.student, "layers.0.up").weight
        zero.append(1 - float(cut(weight).ne(0).any(dim=3).any(dim=2).float().mean()))
        assert zero[-1] == pytest.approx(distiller.share, abs=1 / 64)
    assert zero[0] == 0
    assert zero == sorted(zero)
    assert zero[-1] == pytest.approx(SHARE)
    assert losses[-1] < max(losses) / 1.5, "the weights that stay recover"


def test_only_the_feed_forward_matrices_become_sparse() -> None:
    distiller = pruning()
    while not distiller.is_done:
        distiller.step()
    assert [*distiller.masks] == feed_forward_matrices(distiller.student)
    student = distiller.student.requires_grad_(False)
    attach_sparse_grids(student, distiller.masks)
    tensors = encoder_tensors(student)
    sparse = [name for name, tensor in tensors.items() if tensor.scheme == BCSR]
    assert sparse == feed_forward_matrices(student)
    for name in sparse:
        stored_NK = tensors[name].q_NK
        assert not stored_NK[~expand(distiller.masks[name])].any()
        assert len(tensors[name].parts["blocks"]) == int(distiller.masks[name].sum())


def test_a_resumed_pruning_takes_the_same_steps_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    whole = pruning()
    while not whole.is_done:
        # In the middle of a mask, so that the mask must be in the checkpoint.
        if whole.num_done == 17:
            write_checkpoint(path, whole, "key")
        whole.step()
    again = pruning()
    assert resume(path, again, "key")
    while not again.is_done:
        again.step()
    for name, value in whole.tensors().items():
        assert torch.equal(value, again.tensors()[name]), name


def test_a_matrix_that_cannot_be_cut_is_named() -> None:
    strata = dense_strata(dataclasses.replace(DENSE, d_ff=120))
    with pytest.raises(WrongConfig, match="up is 120 x 64"):
        feed_forward_matrices(strata)
