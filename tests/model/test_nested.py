"""The two planes: `join` is the inverse of `split`, and INT4 has the smallest error of all multipliers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.linear_i4.reference import GROUP, high_plane, unpack_nibbles
from model.nested import MAX_Q8, join, split


def integers(num_rows: int, num_groups: int, *, largest: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, (num_rows, num_groups * GROUP), dtype=torch.int8, generator=generator)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, MAX_Q8), st.integers(0, 1 << 30))
@settings(max_examples=80)
def test_what_was_split_joins(num_rows: int, num_groups: int, largest: int, seed: int) -> None:
    q8_NK = integers(num_rows, num_groups, largest=largest, seed=seed)
    hi_NJ, lo_NJ, m_NG = split(q8_NK)
    assert torch.equal(join(hi_NJ, lo_NJ, m_NG), q8_NK)
    assert m_NG.shape == (num_rows, num_groups)
    assert m_NG.min() >= 1
    assert m_NG.max() <= 16
    assert {part.dtype for part in (hi_NJ, lo_NJ, m_NG)} == {torch.uint8}


@pytest.mark.parametrize("value", range(-MAX_Q8, MAX_Q8 + 1))
def test_every_value_can_be_split(value: int) -> None:
    q8_NK = torch.zeros(2, GROUP, dtype=torch.int8)
    q8_NK[0, 0] = value
    q8_NK[1, 1] = MAX_Q8
    assert torch.equal(join(*split(q8_NK)), q8_NK)


@given(st.integers(0, MAX_Q8), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_no_multiplier_would_be_better(largest: int, seed: int) -> None:
    q8_NK = integers(3, 1, largest=largest, seed=seed)
    hi_NJ, _, m_NG = split(q8_NK)
    found_N = (q8_NK - high_plane(hi_NJ, m_NG).int()).square().sum(dim=1)
    for m in range(1, 17):
        hi_NK = torch.round(q8_NK / m).clamp(-8, 7)
        lo_NK = q8_NK - m * hi_NK
        can_N = ((lo_NK >= -8) & (lo_NK <= 7)).all(dim=1)
        assert (found_N <= lo_NK.square().sum(dim=1))[can_N].all(), m


@given(st.integers(0, 1 << 30))
@settings(max_examples=20)
def test_important_inputs_are_nearer(seed: int) -> None:
    q8_NK = integers(6, 1, largest=MAX_Q8, seed=seed)
    importance_K = torch.ones(GROUP)
    importance_K[:4] = 100.0
    planes = [split(q8_NK), split(q8_NK, importance_K)]
    errors = [((q8_NK - high_plane(hi, m).int()).square() * importance_K).sum() for hi, _, m in planes]
    assert errors[1] <= errors[0]
    assert all(torch.equal(join(*each), q8_NK) for each in planes)


def test_small_groups_are_exact_in_int4() -> None:
    q8_NK = integers(4, 2, largest=7, seed=0)
    hi_NJ, lo_NJ, m_NG = split(q8_NK)
    assert torch.equal(high_plane(hi_NJ, m_NG), q8_NK)
    assert torch.equal(unpack_nibbles(hi_NJ), q8_NK)
    assert not lo_NJ.any()
    assert (m_NG == 1).all()


def test_planes_that_no_split_made_do_not_overflow_into_range() -> None:
    lowest = torch.full((1, GROUP // 2), 0x88, dtype=torch.uint8)
    assert join(lowest, lowest, torch.full((1, 1), 16, dtype=torch.uint8)).abs().min() > MAX_Q8
