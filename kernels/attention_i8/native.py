"""Attention in 8-bit integers in our own C: up to 32 queries at a time, and a head stays in the cache throughout."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import native
from kernels.attention.library import EqualLengths, offsets_of
from kernels.native import address
from kernels.native.binding import HeadShape

LANES = 16
MAX_HEAD = 256
"""The width of a head is a multiple of LANES, at most MAX_HEAD."""


def why_not_head(head: int) -> list[str]:
    """Returns the reasons against heads of this width."""
    if 0 < head <= MAX_HEAD and head % LANES == 0:
        return []
    return [f"a head is {head} wide; expected a multiple of {LANES} up to {MAX_HEAD}"]


def attention(
    qkv_TW: Tensor,
    groups: Sequence[EqualLengths],
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    isa: str | None = None,
) -> Tensor:
    """Returns the result of the reference, to the bit. `why_not_head` must be empty."""
    offsets_B = torch.tensor(offsets_of(groups), dtype=torch.int32)
    qkv_TW = qkv_TW.contiguous()
    num_kv_heads = num_kv_heads or num_heads
    head = qkv_TW.shape[1] // (num_heads + 2 * num_kv_heads)
    out_TX = qkv_TW.new_empty(len(qkv_TW), num_heads * head)
    shape = HeadShape(num_heads, num_kv_heads, head)
    run = native.kernels(isa).attention
    native.raise_for_status(run(address(qkv_TW), address(offsets_B), len(offsets_B) - 1, shape, address(out_TX)))
    return out_TX
