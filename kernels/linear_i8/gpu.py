"""The INT8 linear layer on a GPU, in Triton: one kernel quantizes the rows, one multiplies and runs the epilogue.

    x_MK --quantize_rows--> s_MK i8, scale_M, min_M --_multiply--> acc_MN i32 --epilogue--> y_MN

Tensor cores need both operands signed, so a row is stored as s = q - 128. That lowers a sum by 128 * sum_K(w), which is
known beforehand and is added again before anything is rounded: the sums are the reference's, bit by bit.

The float operations are the reference's too, in its order: divisions round to nearest, and multiply-adds are fused
where torch fuses them (`addcmul`) and nowhere else.

Rejected: quantizing within the product (every column of tiles would repeat it) and autotuning the tile sizes (an
answer would wait for the compiler at each new number of rows).

Shape suffixes: M tokens, K inputs, N outputs.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.linear_i8.reference import EPSILON, Int8Weight

BLOCK_N = 64
BLOCK_K = 64

_SHIFT = tl.constexpr(128)

_WHOLE = tl.constexpr(float(1 << 23))
"""2**23: from here to twice this, floats are exactly the whole numbers, so adding it rounds half to even."""


def pack(weight: Int8Weight) -> Callable[[Tensor], Tensor]:
    """Returns the layer as a function of x_MK, for a weight on a GPU; x_MK must be on the same GPU."""
    return functools.partial(linear, _multiply, (weight.q_NK,), epilogue_operands(weight))


def epilogue_operands(weight: Int8Weight) -> tuple[Tensor, ...]:
    """Returns the operands of `epilogue` for each output: shift_N int32, then scale_N, scaled_ksum_N and bias_N."""
    shift_N = _SHIFT.value * weight.q_NK.sum(dim=1, dtype=torch.int32)
    return shift_N, weight.scale_N, weight.scaled_ksum_N, weight.bias_N


def quantize_rows(x_MK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns s_MK int8, scale_M and min_M float32: those of the reference's `quantize_rows`, with s = q - 128."""
    x_MK = x_MK.contiguous()
    num_rows, num_in = x_MK.shape
    s_MK = torch.empty_like(x_MK, dtype=torch.int8)
    scale_M, min_M = x_MK.new_empty(2, num_rows)
    block = triton.next_power_of_2(num_in)
    with torch.cuda.device_of(x_MK):
        _quantize_row[(num_rows,)](x_MK, s_MK, scale_M, min_M, num_in, EPSILON, block, enable_fp_fusion=False)
    return s_MK, scale_M, min_M


def linear(kernel: Any, matrices: tuple[Tensor, ...], per_output: tuple[Tensor, ...], x_MK: Tensor) -> Tensor:
    """Returns y_MN. Quantizes x_MK, then launches `kernel`, which multiplies the rows by the weight in `matrices`.

    `per_output` are its `epilogue_operands`. Raises ValueError for rows on another device than the weight.
    """
    if x_MK.device != matrices[0].device:
        raise ValueError(f"x_MK is on {x_MK.device}; expected it beside the weight, on {matrices[0].device}")
    s_MK, scale_M, min_M = quantize_rows(x_MK)
    (num_rows, num_in) = s_MK.shape
    num_out = len(per_output[0])
    y_MN = x_MK.new_empty(num_rows, num_out)
    block_m = 16 if num_rows <= 32 else 64
    grid = (triton.cdiv(num_rows, block_m), triton.cdiv(num_out, BLOCK_N))
    sizes = (num_rows, num_out, num_in, block_m, BLOCK_N, BLOCK_K)
    with torch.cuda.device_of(x_MK):
        kernel[grid](s_MK, *matrices, scale_M, min_M, *per_output, y_MN, *sizes, enable_fp_fusion=False)
    return y_MN


@triton.jit
def _quantize_row(x_ptr, s_ptr, x_scale_ptr, x_min_ptr, K, EPSILON: tl.constexpr, BLOCK_K: tl.constexpr):
    """Each program quantizes one row. A fused multiply-add would round once where the reference rounds twice."""
    row = tl.program_id(0).to(tl.int64) * K  # M * K may exceed 31 bits
    k_K = tl.arange(0, BLOCK_K)
    in_row_K = k_K < K
    x_K = tl.load(x_ptr + row + k_K, mask=in_row_K)
    x_min = tl.min(tl.where(in_row_K, x_K, float("inf")), axis=0)
    x_range = tl.max(tl.where(in_row_K, x_K, float("-inf")), axis=0) - x_min
    levels = tl.full([], 255.0, tl.float32)
    q_K = ((x_K - x_min) * tl.math.div_rn(levels, x_range + EPSILON) + _WHOLE) - _WHOLE
    tl.store(s_ptr + row + k_K, (q_K.to(tl.int32) - _SHIFT).to(tl.int8), mask=in_row_K)
    tl.store(x_scale_ptr + tl.program_id(0), tl.math.div_rn(x_range, levels))
    tl.store(x_min_ptr + tl.program_id(0), x_min)


@triton.jit
def _multiply(
    s_ptr, w_ptr, x_scale_ptr, x_min_ptr, shift_ptr, scale_ptr, scaled_ksum_ptr, bias_ptr, y_ptr,
    M, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Each program computes one tile of y."""
    m_M = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    n_N = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    acc_MN = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for first in range(0, K, BLOCK_K):
        k_K = first + tl.arange(0, BLOCK_K)
        s_MK = tl.load(s_ptr + m_M[:, None] * K + k_K, mask=(m_M < M)[:, None] & (k_K < K), other=0)
        w_NK = tl.load(w_ptr + n_N[:, None] * K + k_K, mask=(n_N < N)[:, None] & (k_K < K), other=0)
        acc_MN = tl.dot(s_MK, tl.trans(w_NK), acc_MN, out_dtype=tl.int32)
    epilogue(acc_MN, m_M, n_N, M, N, x_scale_ptr, x_min_ptr, shift_ptr, scale_ptr, scaled_ksum_ptr, bias_ptr, y_ptr)


@triton.jit
def epilogue(acc_MN, m_M, n_N, M, N, x_scale_ptr, x_min_ptr, shift_ptr, scale_ptr, scaled_ksum_ptr, bias_ptr, y_ptr):
    """Undoes the shift, runs the reference's `epilogue` operation by operation, and stores the tile."""
    scale_M = tl.load(x_scale_ptr + m_M, mask=m_M < M, other=0.0)
    min_M = tl.load(x_min_ptr + m_M, mask=m_M < M, other=0.0)
    shift_N = tl.load(shift_ptr + n_N, mask=n_N < N, other=0)
    scale_N = tl.load(scale_ptr + n_N, mask=n_N < N, other=0.0)
    scaled_ksum_N = tl.load(scaled_ksum_ptr + n_N, mask=n_N < N, other=0.0)
    bias_N = tl.load(bias_ptr + n_N, mask=n_N < N, other=0.0)
    scaled_MN = (acc_MN + shift_N).to(tl.float32) * scale_N
    offset_MN = tl.fma(min_M[:, None], scaled_ksum_N[None, :], bias_N[None, :])
    y_MN = tl.fma(scaled_MN, scale_M[:, None], offset_MN)
    tl.store(y_ptr + m_M[:, None] * N + n_N, y_MN, mask=(m_M < M)[:, None] & (n_N < N))
