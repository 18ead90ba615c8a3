"""The attention of one layer, as its plan says: how many heads, rotated or not, and which keys each of them sees."""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from kernels import attention as kernels_attention
from kernels.attention import rotary
from model.plan import BlockPlan
from model.ragged import RaggedLayout

Attention: TypeAlias = Callable[..., Tensor]
"""Computes out_TX from qkv_TW, the groups of a layout, `num_heads`, `num_kv_heads` and `spans`."""


def attend(
    qkv_TW: Tensor, layout: RaggedLayout, plan: BlockPlan, attention: Attention = kernels_attention.attention
) -> Tensor:
    """Returns out_TX, X = heads * head_width."""
    if plan.rope_base is not None:
        qkv_TW = rotary.rotate(
            qkv_TW,
            layout.positions_T,
            num_rotated=plan.heads + plan.kv_heads,
            head_width=plan.head_width,
            base=plan.rope_base,
        )
    spans = plan.masked_spans
    return attention(qkv_TW, layout.groups, num_heads=plan.heads, num_kv_heads=plan.kv_heads, spans=spans)
