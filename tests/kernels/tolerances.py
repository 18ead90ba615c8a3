"""Bounds on the distance of a result from the exact result: each bound follows from the roundings of the computation.

    reference in float64 --> exact values
    number of roundings, sizes of the terms --gamma--> bound, element by element

A rounding to float32 changes a value by at most U of it. After n roundings in a row, in any order of summation, a sum
of terms is off by at most gamma(n) times the sum of their sizes (N. Higham, Accuracy and Stability of Numerical
Algorithms, 2nd edition, lemma 3.1 and equation 3.5).
"""

import torch
from torch import Tensor

from kernels.linear_i8.reference import Int8Weight, accumulate, quantize_rows

U = 2.0**-24
"""The unit roundoff of float32."""


def gamma(num_roundings: int) -> float:
    """Returns the largest relative error after this number of roundings."""
    return num_roundings * U / (1 - num_roundings * U)


def half_step(scale_M1: Tensor) -> Tensor:
    """Returns the bound of a value that is quantized to 8 bits: half a step, and the roundings of float32 before that.

    The difference to the minimum, the inverse step and their product are rounded; the result has up to 255 steps.
    """
    return scale_M1.double() * (0.5 + 255 * gamma(4))


def epilogue(x_MK: Tensor, weight: Int8Weight) -> Tensor:
    """Returns the bound of y_MN = acc scale_N scale_M + (min_M ksum_N + bias_N) whose integers are exact, in float64.

    Each product and each sum is one rounding; `acc`, `scale_M` and `ksum` bring one each.
    """
    q_MK, scale_M1, min_M1 = quantize_rows(x_MK)
    scaled_MN = accumulate(q_MK, weight.q_NK).double() * weight.scale_N.double() * scale_M1.double()
    offset_MN = (min_M1.double() * weight.scaled_ksum_N.double()).abs() + weight.bias_N.double().abs()
    return gamma(6) * (scaled_MN.abs() + offset_MN)


def mean(x_SD: Tensor) -> Tensor:
    """Returns the bound of the mean of S rows, for each column: S - 1 sums and a division."""
    return gamma(len(x_SD)) * x_SD.double().abs().mean(dim=0)


def layer_norm(x_MD: Tensor, gain_D: Tensor, bias_D: Tensor) -> Tensor:
    """Returns the bound of gain (x - mean) / deviation + bias.

    z = (x - mean) / deviation is off by the error of the mean, in deviations, and by the roundings of the difference,
    of the sum of squares, of the root and of the quotient.
    """
    width = x_MD.shape[1]
    x_MD = x_MD.double()
    deviation_M1 = x_MD.std(dim=1, correction=0, keepdim=True)
    z_MD = ((x_MD - x_MD.mean(dim=1, keepdim=True)) / deviation_M1).abs()
    shift_M1 = gamma(width) * x_MD.abs().mean(dim=1, keepdim=True) / deviation_M1
    error_MD = shift_M1 * (1 + z_MD) + gamma(2 * width + 4) * z_MD
    return gain_D.double().abs() * error_MD + gamma(2) * ((gain_D.double() * z_MD).abs() + bias_D.double().abs())


def softmax(largest_score: float, num_keys: int) -> float:
    """Returns the relative bound of a weight of a softmax.

    Its score and the largest one are off by the roundings of the scale, the base, the sum and the difference; an
    exponential by 2 units in the last place; the sum of the weights by that of its terms.
    """
    return 2 * gamma(4) * largest_score + 4 * U + gamma(num_keys)


def assert_within(found: Tensor, exact: Tensor, bound: Tensor) -> None:
    """Asserts that each element of `found` is within `bound` of the exact one, which is in float64."""
    assert exact.dtype == torch.float64
    excess = ((found.double() - exact).abs() - bound).max().item()
    assert excess <= 0, f"{excess:.3g} beyond the bound"


def assert_as_good(found: Tensor, plain: Tensor, exact: Tensor) -> None:
    """Asserts that `found` is at most twice as far from the exact values as the plain computation in float32.

    This is the rule of FlashAttention's tests (Dao et al., arXiv 2205.14135), for results whose bound would be far
    above their error: roundings cancel each other. Four roundings of the largest value more or less are no difference.
    """
    allowed = 2 * (plain.double() - exact).abs().max() + 4 * U * exact.abs().max()
    assert (found.double() - exact).abs().max() <= allowed
