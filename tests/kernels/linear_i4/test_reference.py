"""The definition of the INT4 linear layer: its nibbles, its planes, and its result against arithmetic."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import linear_i8
from kernels.linear_i4 import reference
from kernels.linear_i4.reference import GROUP
from tests.kernels import tolerances
from tests.kernels.linear_i4.layers import rows, weight


def test_every_byte_is_two_nibbles() -> None:
    bytes_NJ = torch.arange(256, dtype=torch.uint8).view(8, 32)
    q_NK = reference.unpack_nibbles(bytes_NJ)
    for byte in range(256):
        pair = [nibble - 16 if nibble > 7 else nibble for nibble in (byte & 15, byte >> 4)]
        assert q_NK.flatten()[2 * byte : 2 * byte + 2].tolist() == pair
    assert torch.equal(reference.pack_nibbles(q_NK), bytes_NJ)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_the_high_plane_is_the_product(num_out: int, num_groups: int, seed: int) -> None:
    layer = weight(num_out, num_groups, seed=seed)
    q4_NK = reference.high_plane(layer.hi_NJ, layer.m_NG)
    hi_NK = reference.unpack_nibbles(layer.hi_NJ).int()
    m_NK = layer.m_NG.int().repeat_interleave(GROUP, dim=1)
    assert torch.equal(q4_NK.int(), hi_NK * m_NK)


@given(st.integers(1, 40), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_result_is_near_the_float_product(num_rows: int, seed: int) -> None:
    """The error is at most half a quantization step of every input, plus the epilogue's error: the sums are exact."""
    layer = weight(16, 2, seed=seed)
    x_MK = rows(num_rows, 128, seed=seed)
    _, scale_M1, _ = linear_i8.reference.quantize_rows(x_MK)
    q4_NK = reference.unpack_nibbles(layer.hi_NJ).double() * layer.m_NG.double().repeat_interleave(GROUP, dim=1)
    w_NK = q4_NK * layer.scale_N.double()[:, None]
    assert layer.bias_N is not None
    exact_MN = x_MK.double() @ w_NK.t() + layer.bias_N.double()
    bound_MN = tolerances.half_step(scale_M1) * w_NK.abs().sum(dim=1) + tolerances.epilogue(x_MK, layer.as_int8())
    tolerances.assert_within(reference.linear(x_MK, layer), exact_MN, bound_MN)
