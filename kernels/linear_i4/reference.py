"""The definition of the INT4 linear layer in plain torch: the INT8 layer on the high plane of a nested weight.

A nested weight is q8 = m * hi + lo: hi and lo are signed nibbles, and m is an integer from 1 to 16 for every row and
group of 64 inputs. This layer multiplies by q4 = m * hi, which an INT8 matrix can hold exactly. So the quantization of
x and the order of the float operations are the same as in `linear_i8`, and `ksum` is the sum of q4 instead of q8:

    hi_NJ, m_NG --high_plane--> q4_NK --linear_i8's reference--> y_MN

Shape suffixes: M tokens, K inputs, N outputs, J = K / 2 bytes, G = K / 64 groups.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.linear_i8 import reference as linear_i8

GROUP = 64
"""Inputs that share a multiplier."""

MAX_MULTIPLIER = 16


@dataclass(frozen=True, slots=True)
class Int4Weight:
    """The weight scale_N * (m * hi), the high plane of a nested weight, and a bias; None is a bias of 0."""

    hi_NJ: Tensor
    m_NG: Tensor
    scale_N: Tensor
    bias_N: Tensor | None

    def as_int8(self) -> linear_i8.Int8Weight:
        """Returns the same weight as an INT8 weight."""
        return linear_i8.Int8Weight.of(high_plane(self.hi_NJ, self.m_NG), self.scale_N, self.bias_N)


def pack_nibbles(q_NK: Tensor) -> Tensor:
    """Packs q_NK, int8 from -8 to 7, into nibbles, uint8 [N, K / 2].

    Input 2j is the low nibble of byte j, and input 2j + 1 its high nibble.
    """
    return ((q_NK[:, 0::2] & 15) | (q_NK[:, 1::2] << 4)).view(torch.uint8)


def unpack_nibbles(q_NJ: Tensor) -> Tensor:
    """Returns the nibbles as int8 [N, K]: the inverse of `pack_nibbles`."""
    both_NJ = q_NJ.contiguous().view(torch.int8)
    return torch.stack((both_NJ << 4, both_NJ), dim=2).flatten(1) >> 4


def high_plane(hi_NJ: Tensor, m_NG: Tensor) -> Tensor:
    """Returns q4_NK int8 = m * hi, from -128 to 112."""
    hi_NGK = unpack_nibbles(hi_NJ).view(*m_NG.shape, GROUP)
    return (hi_NGK * m_NG.view(torch.int8).unsqueeze(2)).flatten(1)


def linear(x_MK: Tensor, weight: Int4Weight) -> Tensor:
    """Returns y_MN float32 for float32 rows x_MK: the definition of the operation."""
    return linear_i8.linear(x_MK, weight.as_int8())
