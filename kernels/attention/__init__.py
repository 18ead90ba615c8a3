"""Self-attention of ragged sequences in float32: the sequences are laid end to end, without padding.

`reference.py` defines it, and `library.py` builds it from torch's operations. `spans.py` restricts heads to some of the
keys, and `rotary.py` rotates queries and keys before the attention. The native encoder uses `kernels.attention_i8`
instead, in 8-bit integers. Callers use `attention`, and `group_equal` for its argument `groups`.
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
    is_causal: bool = False,
) -> Tensor:
    """Returns out_TX float32, X = num_heads * width of a head. Every sequence attends only to its own tokens.

    A row of `qkv_TW`, float32, holds q of `num_heads` heads, then k and v of `num_kv_heads` heads each (by default
    `num_heads`; see `library.repeat_kv`). `groups` are the result of `group_equal`. `spans` are pairs of a number of
    heads and the keys that these heads attend to, for all heads in order; without spans, every head attends to all
    keys. With `is_causal`, a token attends only to itself and the tokens before it; this excludes spans. Raises
    ValueError if width or groups do not fit the rows.
    """
    num_kv_heads = num_kv_heads or num_heads
    multiple = num_heads + 2 * num_kv_heads
    if qkv_TW.dim() != 2 or qkv_TW.shape[1] % multiple or num_heads % num_kv_heads:
        raise ValueError(f"qkv_TW is {tuple(qkv_TW.shape)}; expected [T, W] with W a multiple of {multiple}")
    num_rows = sum(group.num_rows for group in groups)
    if num_rows != qkv_TW.shape[0] or num_rows == 0:
        raise ValueError(f"groups cover {num_rows} rows; expected {qkv_TW.shape[0]}, at least 1")
    if spans and is_causal:
        raise ValueError(f"causal attention with {len(spans)} spans; expected heads that attend to all keys")
    if spans:
        return masked_attention(qkv_TW, groups, spans, num_kv_heads=num_kv_heads)
    qkv_TW = library.repeat_kv(qkv_TW, num_heads, num_kv_heads)
    return library.attention(qkv_TW, groups, num_heads, is_causal=is_causal)
