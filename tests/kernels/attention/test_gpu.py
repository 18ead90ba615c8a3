"""Ragged attention in Triton, against the definition in float64 and against itself in other batches."""

from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.attention import HEADS_ON_GPU, IMPLS, attention, group_equal, reference
from tests.kernels import tolerances


def rows(lengths: list[int], width: int, *, seed: int = 0) -> tuple[Tensor, list[int]]:
    offsets = [0, *accumulate(lengths)]
    return torch.randn(offsets[-1], 3 * width, generator=torch.Generator().manual_seed(seed)), offsets


def run(device: torch.device, qkv_TW: Tensor, offsets: list[int], num_heads: int) -> Tensor:
    from kernels.attention import gpu

    return gpu.attention(qkv_TW.to(device), group_equal(offsets), num_heads).cpu()


@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from(HEADS_ON_GPU),
    st.integers(0, 1 << 30),
)
@settings(max_examples=12)
def test_equals_the_definition(gpu: torch.device, lengths: list[int], num_heads: int, head: int, seed: int) -> None:
    qkv_TW, offsets = rows(lengths, num_heads * head, seed=seed)
    plain, exact = (reference.attention(rows_TW, offsets, num_heads) for rows_TW in (qkv_TW, qkv_TW.double()))
    tolerances.assert_as_good(run(gpu, qkv_TW, offsets, num_heads), plain, exact)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 63, 64, 65, 128])
def test_a_sequence_does_not_depend_on_its_neighbours(gpu: torch.device, length: int) -> None:
    qkv_TW, offsets = rows([3, length, 70], 2 * 32)
    together = run(gpu, qkv_TW, offsets, 2)
    alone = run(gpu, qkv_TW[3 : 3 + length], [0, length], 2)
    assert torch.equal(together[3 : 3 + length], alone)


def test_large_scores_do_not_overflow(gpu: torch.device) -> None:
    qkv_TW, offsets = rows([4, 4, 100], 2 * 16)
    assert torch.isfinite(run(gpu, qkv_TW * 1e3, offsets, 2)).all()


def test_the_largest_score_may_come_last(gpu: torch.device) -> None:
    """Every block of keys raises the maximum, so that everything before it must be rescaled."""
    qkv_TW, offsets = rows([200], 16)
    qkv_TW[:, :16] = 1.0
    qkv_TW[:, 16:32] = torch.arange(200.0).unsqueeze(1) / 16
    exact = reference.attention(qkv_TW.double(), offsets, 1)
    sizes = torch.cat((qkv_TW[:, :32], qkv_TW[:, 32:].abs()), dim=1)
    error = tolerances.softmax(200 / 4, 200) + tolerances.gamma(200)
    bound = error * reference.attention(sizes.double(), offsets, 1)
    tolerances.assert_within(run(gpu, qkv_TW, offsets, 1), exact, bound)


def test_strided_rows(gpu: torch.device) -> None:
    qkv_TW, _ = rows([10], 16)
    assert torch.equal(run(gpu, qkv_TW[::2], [0, 5], 1), run(gpu, qkv_TW[::2].clone(), [0, 5], 1))


@pytest.mark.parametrize(
    ("qkv_TW", "reason"),
    [
        (torch.zeros(4, 3 * 24), "a head is 24 wide; expected one of 16, 32, 64, 128, 256"),
        (torch.zeros(4, 3 * 16, dtype=torch.float64), "the rows are torch.float64; expected torch.float32"),
        (torch.zeros(4, 3 * 16, requires_grad=True), "gradients are wanted"),
    ],
)
def test_reasons(qkv_TW: Tensor, reason: str) -> None:
    assert reason in IMPLS[0].why_not(qkv_TW, group_equal([0, 4]), 1)
    assert reason not in IMPLS[0].why_not(torch.zeros(4, 3 * 16), group_equal([0, 4]), 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_rows_on_a_gpu_attend_there(gpu: torch.device) -> None:
    qkv_TW, offsets = rows([3, 3, 70], 2 * 32)
    found = attention(qkv_TW.to(gpu), group_equal(offsets), num_heads=2)
    assert torch.equal(found.cpu(), run(gpu, qkv_TW, offsets, 2))
