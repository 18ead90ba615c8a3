"""Attention in 8-bit integers in our own C: up to 32 queries at a time, while all data of a head stay in the cache."""

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
"""Columns in a panel of qkv, as the encoder stores it."""

MAX_HEAD = 256
"""The largest width of a head, which must be a multiple of LANES."""


def why_not_head(head: int) -> list[str]:
    """Returns the reasons why the kernel cannot run heads of the width `head`; [] if it can."""
    if 0 < head <= MAX_HEAD and head % LANES == 0:
        return []
    return [f"a head is {head} wide; expected a multiple of {LANES} up to {MAX_HEAD}"]


def head_shape(num_heads: int, num_kv_heads: int, head_width: int, spans: Sequence[tuple[int, KeySpan]]) -> HeadShape:
    """Returns the record of the kernels. It keeps the records of its spans alive."""
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
    """Returns the same bits as `reference.attention`. `why_not_head` and `why_not_spans` must be empty.

    `qkv`, float32, is qkv_TW or panels of 64 columns [W / 64, T, 64]. The encoder stores panels, because a head of a
    long sequence can read its panels without touching the memory of other heads. `isa` forces an instruction set.
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
