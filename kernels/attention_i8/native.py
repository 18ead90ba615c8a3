"""Attention in 8-bit integers in our own C: up to 32 queries at a time, and a head stays in the cache throughout."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import native
from kernels.attention.library import EqualLengths, group_offsets
from kernels.attention.spans import KeySpan
from kernels.attention_i8.spans import LANES, native_spans
from kernels.native import address
from kernels.native.binding import HeadShape, NativeSpan

PANEL = 64
MAX_HEAD = 256
"""The width of a head is a multiple of LANES, at most MAX_HEAD."""


def why_not_head(head: int) -> list[str]:
    """Returns the reasons against heads of this width."""
    if 0 < head <= MAX_HEAD and head % LANES == 0:
        return []
    return [f"a head is {head} wide; expected a multiple of {LANES} up to {MAX_HEAD}"]


def head_shape(num_heads: int, num_kv_heads: int, head_width: int, spans: Sequence[tuple[int, KeySpan]]) -> HeadShape:
    """Returns the record of the kernels, which keeps its spans alive."""
    records = (NativeSpan * len(spans))(*native_spans(spans))
    return HeadShape(num_heads, num_kv_heads, head_width, len(records), records)


def attention(
    qkv: Tensor,
    groups: Sequence[EqualLengths],
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    spans: Sequence[tuple[int, KeySpan]] = (),
    isa: str | None = None,
) -> Tensor:
    """Returns the result of the reference, to the bit. `why_not_head` and `why_not_spans` must be empty.

    `qkv` is qkv_TW or, as the encoder stores it, its panels of 64 columns [W / 64, T, 64], which a head of a long
    sequence reads without touching the memory of all others.
    """
    offsets_B = torch.tensor(group_offsets(groups), dtype=torch.int32)
    qkv = qkv.contiguous()
    num_rows, columns = qkv.shape[-2:]
    width = qkv.numel() // num_rows
    num_kv_heads = num_kv_heads or num_heads
    head = width // (num_heads + 2 * num_kv_heads)
    out_TX = qkv.new_empty(num_rows, num_heads * head)
    status = native.kernels(isa).attention(
        address(qkv),
        columns,
        num_rows * PANEL if qkv.dim() == 3 else PANEL,
        address(offsets_B),
        len(offsets_B) - 1,
        head_shape(num_heads, num_kv_heads, head, spans),
        address(out_TX),
    )
    native.raise_for_status(status)
    return out_TX
