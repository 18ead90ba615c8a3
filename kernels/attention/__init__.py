"""Self-attention of ragged sequences in float32: the sequences are laid end to end, without padding.

`reference.py` defines it, and `library.py` builds it from torch's own operations. In `spans.py` heads see some of the
keys; `rotary.py` rotates queries and keys before. The native encoder runs `kernels.attention_i8` instead, in 8-bit
integers. Callers use `attention`, and `group_equal` for its argument `groups`.
"""

from collections.abc import Sequence

from torch import Tensor

from kernels.attention import library
from kernels.attention.library import EqualLengths, group_equal
from kernels.attention.spans import KeySpan
from kernels.attention.spans import attention as masked_attention

__all__ = ["EqualLengths", "attention", "group_equal"]


def attention(
    qkv_TW: Tensor,
    groups: Sequence[EqualLengths],
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    spans: Sequence[tuple[int, KeySpan]] = (),
) -> Tensor:
    """Returns out_TX float32 for rows of q, k and v side by side, grouped by `group_equal`.

    q is num_heads x width of a head; k and v are num_kv_heads x that, by default as many (see `library.repeat_kv`).
    `spans` are those of all heads in order; without any, every head sees all keys. Every sequence attends to its own
    tokens only. Raises ValueError if width or groups do not fit the rows.
    """
    num_kv_heads = num_kv_heads or num_heads
    multiple = num_heads + 2 * num_kv_heads
    if qkv_TW.dim() != 2 or qkv_TW.shape[1] % multiple or num_heads % num_kv_heads:
        raise ValueError(f"qkv_TW is {tuple(qkv_TW.shape)}; expected [T, W] with W a multiple of {multiple}")
    num_rows = sum(group.num_rows for group in groups)
    if num_rows != qkv_TW.shape[0] or num_rows == 0:
        raise ValueError(f"groups cover {num_rows} rows; expected {qkv_TW.shape[0]}, at least 1")
    if spans:
        return masked_attention(qkv_TW, groups, spans, num_kv_heads=num_kv_heads)
    qkv_TW = library.repeat_kv(qkv_TW, num_heads, num_kv_heads)
    return library.attention(qkv_TW, groups, num_heads)
