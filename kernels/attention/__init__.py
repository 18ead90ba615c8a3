"""Attention over sequences of different lengths laid end to end, without padding.

`reference.py` defines it, `library.py` has it from torch's own operations. There is one implementation and no choice.
"""

from collections.abc import Sequence

from torch import Tensor

from kernels.attention import library
from kernels.attention.library import Group, group_equal

__all__ = ["Group", "attention", "group_equal"]


def attention(qkv_TW: Tensor, groups: Sequence[Group], *, num_heads: int) -> Tensor:
    """out_TX float32 for rows of q, k and v side by side (each num_heads x width), grouped by `group_equal`.

    Every sequence attends to its own tokens only. Raises ValueError when width or groups do not fit the rows.
    """
    if qkv_TW.dim() != 2 or qkv_TW.shape[1] % (3 * num_heads):
        raise ValueError(f"qkv_TW is {tuple(qkv_TW.shape)}; expected [T, W] with W a multiple of {3 * num_heads}")
    num_rows = sum(group.num_rows for group in groups)
    if num_rows != qkv_TW.shape[0] or num_rows == 0:
        raise ValueError(f"groups cover {num_rows} rows; expected {qkv_TW.shape[0]}, at least 1")
    return library.attention(qkv_TW, groups, num_heads)
