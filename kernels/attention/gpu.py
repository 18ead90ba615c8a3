"""Ragged attention on a GPU, in Triton: each program takes one block of queries of one head of one sequence.

It iterates over that sequence's keys alone, between two of the cumulative lengths, so nothing is padded and only the
rest of the last block is computed and masked. The softmax is online (Milakov and Gimelshein, arXiv 1805.02867, as in
FlashAttention): maximum, sum and weighted values so far are rescaled when the maximum grows.

A sequence gets the same bits in every batch, because the blocks begin where it begins.

Products of float32 stay float32 ("ieee"): the tensor cores' TF32, with 10 bits, would change answers.

Shape suffixes: T tokens of all sequences, B sequences, H heads, D width of a head, W = 3 * H * D, Q and S the blocks
of queries and of keys.
"""

import functools
from collections.abc import Sequence
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.library import EqualLengths

TILE = 4096
"""Values of a block: the block of queries and the blocks of keys and values in flight fit into 99 KiB of shared memory,
which every supported GPU has."""

LOG2_E = 1.4426950408889634


def attention(qkv_TW: Tensor, groups: Sequence[EqualLengths], num_heads: int) -> Tensor:
    """Returns out_TX with X = H * D, for groups that cover all rows in order; D is a power of two from 16 to 256."""
    qkv_TW = qkv_TW.contiguous()
    num_rows, width = qkv_TW.shape
    head = width // (3 * num_heads)
    block = min(64, TILE // head)
    longest = max(group.length for group in groups)
    offsets_B = _offsets(tuple(groups), qkv_TW.device)
    out_TX = qkv_TW.new_empty(num_rows, width // 3)
    grid = ((len(offsets_B) - 1) * num_heads, triton.cdiv(longest, block))
    scale = head**-0.5 * LOG2_E
    with torch.cuda.device_of(qkv_TW):
        _attend[grid](qkv_TW, offsets_B, out_TX, scale, num_heads, head, block, enable_fp_fusion=True)
    return out_TX


@functools.lru_cache(maxsize=4)
def _offsets(groups: tuple[EqualLengths, ...], device: torch.device) -> Tensor:
    """The cumulative lengths, starting with 0: copied to the GPU once for all layers of a batch."""
    lengths: list[int] = []
    for group in groups:
        lengths += [group.length] * group.count
    return torch.tensor([0, *accumulate(lengths)], device=device)


@triton.jit
def _attend(qkv_ptr, offsets_ptr, out_ptr, scale, H: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr):
    sequence = tl.program_id(0) // H
    head = tl.program_id(0) % H
    begin = tl.load(offsets_ptr + sequence)
    length = tl.load(offsets_ptr + sequence + 1) - begin
    q_Q = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if tl.program_id(1) * BLOCK >= length:  # the grid has as many blocks as the longest sequence
        return
    d_D = tl.arange(0, D)
    is_query_Q = (q_Q < length)[:, None]
    base_ptr = qkv_ptr + begin * (3 * H * D) + head * D
    q_QD = tl.load(base_ptr + q_Q[:, None] * (3 * H * D) + d_D, mask=is_query_Q, other=0.0) * scale
    max_Q = tl.full((BLOCK,), float("-inf"), tl.float32)
    sum_Q = tl.zeros((BLOCK,), tl.float32)
    out_QD = tl.zeros((BLOCK, D), tl.float32)
    for first in range(0, length, BLOCK):
        s_S = first + tl.arange(0, BLOCK)
        kv_SD = base_ptr + s_S[:, None] * (3 * H * D) + d_D
        k_SD = tl.load(kv_SD + H * D, mask=(s_S < length)[:, None], other=0.0)
        v_SD = tl.load(kv_SD + 2 * H * D, mask=(s_S < length)[:, None], other=0.0)
        scores_QS = tl.dot(q_QD, tl.trans(k_SD), input_precision="ieee")
        scores_QS = tl.where(s_S < length, scores_QS, float("-inf"))
        new_max_Q = tl.maximum(max_Q, tl.max(scores_QS, axis=1))
        p_QS = tl.exp2(scores_QS - new_max_Q[:, None])
        rescale_Q = tl.exp2(max_Q - new_max_Q)
        sum_Q = sum_Q * rescale_Q + tl.sum(p_QS, axis=1)
        out_QD = tl.dot(p_QS, v_SD, out_QD * rescale_Q[:, None], input_precision="ieee")
        max_Q = new_max_Q
    out_ptrs = out_ptr + (begin + q_Q[:, None]) * (H * D) + head * D + d_D
    tl.store(out_ptrs, out_QD / sum_Q[:, None], mask=is_query_Q)
