"""The definition of the INT8 linear layer in plain torch: slow, and exact in its integer part.

    x_MK --quantize_rows--> q_MK u8, scale_M1, min_M1 --accumulate--> acc_MN i32 --epilogue--> y_MN

Activations are quantized row by row to unsigned 8 bits: 256 evenly spaced values from the row's minimum to its maximum,
x ~ min_M + scale_M * q. The weight is symmetric, with one scale for each output: w ~ scale_N * q with q in [-127, 127].
Hence

    y_MN = scale_M * scale_N * acc_MN + min_M * scale_N * sum_K(q_NK) + bias_N

The sum over K is known beforehand: it is `ksum`, the correction for an asymmetric zero point. Rounding is half to even.
The order of the float operations is part of the definition: every implementation gives the same bits.

Rejected:

- symmetric rows with 127 levels on each side: the error of embeddings is 2.5 times as large;
- an integer zero point: one more clamp, and half a quantization step more error at the edges.

Shape suffixes: M tokens, K inputs, N outputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-8
"""Keeps the inverse scale of a constant row finite. torch's row quantizer has the same value."""

_LEVELS = torch.tensor(255.0)


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """An INT8 weight and the float32 operands of its epilogue. `scaled_ksum_N` is scale_N * sum_K(q_NK)."""

    q_NK: Tensor
    scale_N: Tensor
    bias_N: Tensor
    scaled_ksum_N: Tensor

    @classmethod
    def of(cls, q_NK: Tensor, scale_N: Tensor, bias_N: Tensor | None) -> "Int8Weight":
        """Returns the `Int8Weight` of the matrix q_NK * scale_N[:, None], q_NK int8, and of a bias.

        A `bias_N` of None stands for a bias of 0.
        """
        scale_N = scale_N.float()
        bias_N = torch.zeros_like(scale_N) if bias_N is None else bias_N.float()
        ksum_N = q_NK.sum(dim=1, dtype=torch.int32)
        return cls(q_NK.contiguous(), scale_N.contiguous(), bias_N.contiguous(), scale_N * ksum_N)


def quantize_rows(x_MK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns q_MK uint8, scale_M1 and min_M1 float32, such that |x - (min + scale * q)| <= scale / 2 (+ 1e-8)."""
    min_M1 = x_MK.amin(dim=1, keepdim=True)
    range_M1 = x_MK.amax(dim=1, keepdim=True) - min_M1
    # torch.div divides; the expression 255 / t multiplies by a reciprocal, which rounds differently.
    q_MK = torch.round((x_MK - min_M1) * torch.div(_LEVELS, range_M1 + EPSILON))
    return q_MK.to(torch.uint8), torch.div(range_M1, _LEVELS), min_M1


def accumulate(q_MK: Tensor, w_NK: Tensor) -> Tensor:
    """Returns acc_MN int32, which is exact: float64 represents all sums of 8-bit products exactly up to K = 2**37."""
    return torch.mm(q_MK.double(), w_NK.double().t()).to(torch.int32)


def epilogue(scaled_MN: Tensor, scale_M1: Tensor, min_M1: Tensor, weight: Int8Weight) -> Tensor:
    """Returns y_MN float32 from `scaled_MN`, which is float(acc) * scale_N and is overwritten.

    The order of operations is part of the definition.
    """
    offset_MN = torch.addcmul(weight.bias_N, min_M1, weight.scaled_ksum_N)
    return torch.addcmul(offset_MN, scaled_MN, scale_M1, out=scaled_MN)


def linear(x_MK: Tensor, weight: Int8Weight) -> Tensor:
    """Returns y_MN float32 for float32 rows x_MK: the definition of the operation."""
    q_MK, scale_M1, min_M1 = quantize_rows(x_MK)
    acc_MN = accumulate(q_MK, weight.q_NK)
    return epilogue(acc_MN.float() * weight.scale_N, scale_M1, min_M1, weight)
