"""Ragged attention in our own C: sixteen queries at a time, online softmax, nothing but the output in memory."""

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from kernels import native
from kernels.attention.library import Group, offsets_of
from kernels.dispatch import Impl
from kernels.native import address

Attention: TypeAlias = Callable[[Tensor, Sequence[Group], int], Tensor]

LANES, MAX_HEAD = 16, 256
"""A head is a multiple of LANES wide, and at most MAX_HEAD."""


def why_not_head(head: int) -> list[str]:
    """What speaks against heads of this width."""
    if 0 < head <= MAX_HEAD and head % LANES == 0:
        return []
    return [f"a head is {head} wide; expected a multiple of {LANES} up to {MAX_HEAD}"]


def attention(qkv_TW: Tensor, groups: Sequence[Group], num_heads: int, *, way: str | None = None) -> Tensor:
    """out_TX with X = W / 3, for the groups that make up all rows in order."""
    offsets_B = torch.tensor(offsets_of(groups), dtype=torch.int32)
    qkv_TW = qkv_TW.contiguous()
    width = qkv_TW.shape[1] // 3
    out_TX = qkv_TW.new_empty(len(qkv_TW), width)
    attend = native.kernels(way).attention
    native.done(
        attend(address(qkv_TW), address(offsets_B), len(offsets_B) - 1, num_heads, width // num_heads, address(out_TX))
    )
    return out_TX


def _why_not(way: str, qkv_TW: Tensor, _: Sequence[Group], num_heads: int) -> list[str]:
    reasons = [*native.why_not(way), *why_not_head(qkv_TW.shape[1] // (3 * num_heads))]
    if qkv_TW.dtype != torch.float32 or qkv_TW.device.type != "cpu":
        reasons.append(f"the rows are {qkv_TW.dtype} on {qkv_TW.device}; expected torch.float32 on the CPU")
    return reasons


NATIVE: tuple[Impl[Attention], ...] = tuple(
    Impl(f"native/{way}", functools.partial(_why_not, way), functools.partial(attention, way=way))
    for way in native.WAYS
)
