"""Rotary position embedding (RoPE): queries and keys are rotated by angles that grow with their positions.

    (x_c, x_{c + D/2}) rotated by  position * base**(-2 c / D)        c = 0 .. D/2 - 1

RoFormer (Su et al., arXiv 2104.09864, equation 34), with the channels of a pair half a head apart, as in GPT-NeoX,
Llama and ModernBERT. A score then depends only on the distance between query and key.

Shape suffixes: T tokens, H rotated heads (queries, then keys), D width of a head, C = D / 2, P positions, W width of a
row.
"""

from functools import cache

import torch
from torch import Tensor


@cache
def rotations(num_positions: int, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Returns the cosines and sines of all angles, float32 [P, D / 2], rounded once from float64."""
    channel = torch.arange(head_width // 2, dtype=torch.float64)
    angle_PC = torch.arange(num_positions, dtype=torch.float64)[:, None] * base ** (-2 * channel / head_width)
    return angle_PC.cos().float(), angle_PC.sin().float()


def rotate(qkv_TW: Tensor, positions_T: Tensor, *, num_rotated: int, head_width: int, base: float) -> Tensor:
    """Returns the rows with their first `num_rotated` heads, the queries and keys, rotated by their positions.

    `positions_T`, int64, are the positions of the rows in their sequences.
    """
    num_positions = int(positions_T.max()) + 1
    # Sizes are powers of two, so that `rotations` caches only a few tables.
    cos_PC, sin_PC = rotations(1 << (num_positions - 1).bit_length(), head_width, base)
    cos_T1C = cos_PC.index_select(0, positions_T)[:, None]
    sin_T1C = sin_PC.index_select(0, positions_T)[:, None]
    width = num_rotated * head_width
    low_THC, high_THC = qkv_TW[:, :width].reshape(-1, num_rotated, 2, head_width // 2).unbind(2)
    rotated_THD = torch.cat(
        (low_THC * cos_T1C - high_THC * sin_T1C, high_THC * cos_T1C + low_THC * sin_T1C),
        dim=2,
    )
    return torch.cat((rotated_THD.flatten(1), qkv_TW[:, width:]), dim=1)
