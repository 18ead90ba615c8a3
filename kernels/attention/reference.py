"""The definition of ragged attention in plain torch, one sequence after another.

    softmax_S(q_S . k_S / sqrt(D)) v_S  for every head of every sequence, over that sequence's own tokens

Shape suffixes: T tokens of all sequences, S tokens of one, H heads, D width of a head, W = 3 * H * D.
"""

import itertools

import torch
from torch import Tensor


def attention(qkv_TW: Tensor, offsets: list[int], num_heads: int) -> Tensor:
    """Returns out_TX with X = H * D.

    Rows offsets[i]:offsets[i + 1] are sequence i. A row holds q, k and v, each of H heads of width D.
    """
    pieces = [_attend(qkv_TW[start:end], num_heads) for start, end in itertools.pairwise(offsets)]
    return torch.cat(pieces)


def _attend(qkv_SW: Tensor, num_heads: int) -> Tensor:
    length, width = qkv_SW.shape
    q_HSD, k_HSD, v_HSD = qkv_SW.view(length, 3, num_heads, width // (3 * num_heads)).permute(1, 2, 0, 3).unbind(0)
    scores_HSS = q_HSD @ k_HSD.transpose(1, 2) / q_HSD.shape[-1] ** 0.5
    out_HSD = torch.matmul(scores_HSS.softmax(dim=-1), v_HSD)
    return out_HSD.transpose(0, 1).reshape(length, width // 3)
