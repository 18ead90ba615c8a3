"""Attention over sequences of different lengths laid end to end, without padding.

`reference.py` defines it, `library.py` has it from torch's own operations, `gpu.py` in Triton, for rows on a GPU. All
in full precision: what the native encoder runs, in 8-bit integers, is `kernels.attention_i8`.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from kernels import gpu as on_gpu
from kernels.attention import library
from kernels.attention.library import EqualLengths, group_equal
from kernels.dispatch import Impl, choose

__all__ = ["IMPLS", "EqualLengths", "attention", "group_equal"]

Attention: TypeAlias = Callable[[Tensor, Sequence[EqualLengths], int], Tensor]

HEADS_ON_GPU = (16, 32, 64, 128, 256)
"""Widths of a head that make a tile, and leave room for it."""


def _why_not_gpu(qkv_TW: Tensor, _: Sequence[EqualLengths], num_heads: int) -> list[str]:
    reasons = on_gpu.why_not(qkv_TW)
    if (head := qkv_TW.shape[1] // (3 * num_heads)) not in HEADS_ON_GPU:
        reasons.append(f"a head is {head} wide; expected one of {', '.join(map(str, HEADS_ON_GPU))}")
    if qkv_TW.dtype != torch.float32:
        reasons.append(f"the rows are {qkv_TW.dtype}; expected torch.float32")
    if qkv_TW.requires_grad and torch.is_grad_enabled():
        reasons.append("gradients are wanted")
    return reasons


def _attend_on_gpu(qkv_TW: Tensor, groups: Sequence[EqualLengths], num_heads: int) -> Tensor:
    from kernels.attention import gpu

    return gpu.attention(qkv_TW, groups, num_heads)


IMPLS: tuple[Impl[Attention], ...] = (
    Impl("triton", _why_not_gpu, _attend_on_gpu),
    Impl("library", lambda *_: [], library.attention),
)


def attention(qkv_TW: Tensor, groups: Sequence[EqualLengths], *, num_heads: int) -> Tensor:
    """out_TX float32 for rows of q, k and v side by side (each num_heads x width), grouped by `group_equal`.

    Every sequence attends to its own tokens only. Raises ValueError when width or groups do not fit the rows.
    """
    if qkv_TW.dim() != 2 or qkv_TW.shape[1] % (3 * num_heads):
        raise ValueError(f"qkv_TW is {tuple(qkv_TW.shape)}; expected [T, W] with W a multiple of {3 * num_heads}")
    num_rows = sum(group.num_rows for group in groups)
    if num_rows != qkv_TW.shape[0] or num_rows == 0:
        raise ValueError(f"groups cover {num_rows} rows; expected {qkv_TW.shape[0]}, at least 1")
    if not qkv_TW.is_cuda:  # nothing to choose
        return library.attention(qkv_TW, groups, num_heads)
    return choose("attention", IMPLS, qkv_TW, groups, num_heads).run(qkv_TW, groups, num_heads)
