"""The INT4 linear layer on a GPU, in Triton: the kernel of `linear_i8`, with the weight unpacked from nibbles.

A byte is unpacked to two inputs and multiplied by its group's m in registers, which gives the int8 values of m * hi;
only half a byte an input is read from memory. The loop over K advances by one group, so a tile loads one m for each
output.

Rejected: sums per group, each multiplied by its m (as many multiplications as sums, M times as many as here).

Shape suffixes: M tokens, K inputs, N outputs, J = K / 2 bytes, G = K / 64 groups.
"""

import functools
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.linear_i4.reference import GROUP, Int4Weight
from kernels.linear_i8 import gpu as linear_i8
from kernels.linear_i8.gpu import epilogue

assert linear_i8.BLOCK_K == GROUP, "the loop over K advances by one group of inputs"


def pack(weight: Int4Weight) -> Callable[[Tensor], Tensor]:
    """Returns the layer as a function of x_MK, for a weight on a GPU; x_MK must be on the same GPU."""
    matrices = (weight.hi_NJ.contiguous().view(torch.int8), weight.m_NG.contiguous().view(torch.int8))
    per_output = linear_i8.epilogue_operands(weight.as_int8())
    return functools.partial(linear_i8.linear, _multiply, matrices, per_output)


@triton.jit
def _multiply(
    s_ptr, hi_ptr, m_ptr, x_scale_ptr, x_min_ptr, shift_ptr, scale_ptr, scaled_ksum_ptr, bias_ptr, y_ptr,
    M, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Each program computes one tile of y. K is a multiple of BLOCK_K."""
    m_M = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    n_N = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    k_K = tl.arange(0, BLOCK_K)
    j_J = tl.arange(0, BLOCK_K // 2)
    acc_MN = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for group in range(0, K // BLOCK_K):
        s_MK = tl.load(s_ptr + m_M[:, None] * K + group * BLOCK_K + k_K, mask=(m_M < M)[:, None], other=0)
        both_ptr = hi_ptr + n_N[:, None] * (K // 2) + group * (BLOCK_K // 2) + j_J
        both_NJ = tl.load(both_ptr, mask=(n_N < N)[:, None], other=0)
        m_N = tl.load(m_ptr + n_N * (K // BLOCK_K) + group, mask=n_N < N, other=0)
        hi_NK = tl.interleave((both_NJ << 4) >> 4, both_NJ >> 4)  # shifting an int8 to the right copies its sign
        acc_MN = tl.dot(s_MK, tl.trans(hi_NK * m_N[:, None]), acc_MN, out_dtype=tl.int32)
    epilogue(acc_MN, m_M, n_N, M, N, x_scale_ptr, x_min_ptr, shift_ptr, scale_ptr, scaled_ksum_ptr, bias_ptr, y_ptr)
