"""The INT4 linear layer in Triton: sums bit by bit, results within the rounding of two multiply-adds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import linear_i4
from kernels.linear_i4 import reference
from kernels.linear_i4.reference import GROUP, Int4Weight
from kernels.linear_i8.reference import accumulate
from tests.kernels.linear_i8.test_gpu import SIZES, assert_rounded_alike, bytes_as_rows, on, rows

GROUPS = st.integers(1, 3)


def layer(num_out: int, num_groups: int, seed: int, device: torch.device) -> Int4Weight:
    generator = torch.Generator().manual_seed(seed)
    hi_NJ = torch.randint(0, 256, (num_out, num_groups * GROUP // 2), dtype=torch.uint8, generator=generator)
    m_NG = torch.randint(1, 17, (num_out, num_groups), dtype=torch.uint8, generator=generator)
    scale_N = torch.rand(num_out, generator=generator) * 0.01
    return Int4Weight(*on(device, hi_NJ, m_NG, scale_N, torch.randn(num_out, generator=generator)))


@given(num_groups=GROUPS, **SIZES)
@settings(max_examples=15)
def test_sums_are_exact(gpu: torch.device, num_rows: int, num_out: int, num_groups: int, seed: int) -> None:
    from kernels.linear_i4.gpu import pack

    weight = layer(num_out, num_groups, seed, torch.device("cpu"))
    x_MK = bytes_as_rows(num_rows, num_groups * GROUP, seed)
    run = pack(Int4Weight(*on(gpu, weight.hi_NJ, weight.m_NG, torch.ones(num_out), torch.zeros(num_out))))
    acc_MN = accumulate(x_MK, reference.high_plane(weight.hi_NJ, weight.m_NG))
    assert torch.equal(run(x_MK.to(gpu)).cpu(), acc_MN.float())


def test_every_byte_and_every_multiplier(gpu: torch.device) -> None:
    """The weight has every byte at every position of a group; each row of x reads one input."""
    from kernels.linear_i4.gpu import pack

    hi_NJ = torch.arange(256, dtype=torch.uint8).unsqueeze(1) + torch.arange(GROUP // 2, dtype=torch.uint8)
    m_NG = (torch.arange(256) % 16 + 1).to(torch.uint8).unsqueeze(1)
    x_MK = 255.0 * torch.eye(GROUP)
    y_MN = pack(Int4Weight(*on(gpu, hi_NJ, m_NG, torch.ones(256), torch.zeros(256))))(x_MK.to(gpu))
    assert torch.equal(y_MN.cpu(), 255.0 * reference.high_plane(hi_NJ, m_NG).t())


@given(num_groups=GROUPS, **SIZES)
@settings(max_examples=15)
def test_results_are_the_references(gpu: torch.device, num_rows: int, num_out: int, num_groups: int, seed: int) -> None:
    from kernels.linear_i4.gpu import pack

    weight = layer(num_out, num_groups, seed, gpu)
    x_MK = rows(num_rows, num_groups * GROUP, seed)
    assert_rounded_alike(pack(weight)(x_MK.to(gpu)), x_MK, weight.as_int8())


def test_strided_planes(gpu: torch.device) -> None:
    from kernels.linear_i4.gpu import pack

    weight = layer(6, 2, 0, gpu)
    (x_MK,) = on(gpu, rows(3, 2 * GROUP, 1))
    hi_NJ = weight.hi_NJ[::2]
    m_NG = weight.m_NG[::2]
    scale_N = weight.scale_N[::2]
    copy = Int4Weight(hi_NJ.clone(), m_NG.clone(), scale_N.clone(), None)
    assert torch.equal(pack(Int4Weight(hi_NJ, m_NG, scale_N, None))(x_MK), pack(copy)(x_MK))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_weight_on_a_gpu_is_multiplied_there(gpu: torch.device) -> None:
    weight = layer(33, 2, 0, gpu)
    x_MK = rows(7, 2 * GROUP, 1)
    packed = linear_i4.pack(weight.hi_NJ, weight.m_NG, weight.scale_N, weight.bias_N)
    assert packed.name == "triton"
    assert_rounded_alike(linear_i4.linear_i4(x_MK.to(gpu), packed), x_MK, weight.as_int8())
