"""Attention in 8-bit integers in our own C: up to 32 queries at a time, and a head stays in the cache throughout."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import native
from kernels.attention.library import EqualLengths, offsets_of
from kernels.native import address

LANES = 16
MAX_HEAD = 256
"""The width of a head is a multiple of LANES, at most MAX_HEAD."""


def why_not_head(head: int) -> list[str]:
    """Returns the reasons against heads of this width."""
    if 0 < head <= MAX_HEAD and head % LANES == 0:
        return []
    return [f"a head is {head} wide; expected a multiple of {LANES} up to {MAX_HEAD}"]


def attention(qkv_TW: Tensor, groups: Sequence[EqualLengths], *, num_heads: int, isa: str | None = None) -> Tensor:
    """Returns the result of the reference, to the bit. `why_not_head` must be empty."""
    offsets_B = torch.tensor(offsets_of(groups), dtype=torch.int32)
    qkv_TW = qkv_TW.contiguous()
    width = qkv_TW.shape[1] // 3
    out_TX = qkv_TW.new_empty(len(qkv_TW), width)
    run = native.kernels(isa).attention
    num_sequences = len(offsets_B) - 1
    head = width // num_heads
    status = run(address(qkv_TW), address(offsets_B), num_sequences, num_heads, head, address(out_TX))
    native.raise_for_status(status)
    return out_TX
