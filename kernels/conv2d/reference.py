"""The definition of the 3 x 3 convolution in plain torch: stride 1, and a border of zeros one pixel wide.

In float32 it is y = w * x + bias, computed in float64. Winograd's minimal filtering F(m x m, 3 x 3) with m = 2 or 4
(Lavin and Gray, arXiv 1509.09308, section 4) is the same function with fewer multiplications, for tiles of m x m
outputs:

    Y = A^T [sum over C of (G g G^T) * (B^T d B)] A

In INT8 an image and its border are quantized together, as one row of `kernels.linear_i8`, and the sums are exact:

    x_BCHW --quantize_images--> q_BCIJ u8, scale_B1, min_B1 --accumulate--> acc_BOHW i32 --epilogue--> y_BOHW

The border is quantized like the image. If no value is negative, as after a ReLU, its zeros are exact.

`winograd_sums` computes the sums of the INT8 convolution by F(2x2,3x3). Only the transform G of the filter has a factor
of 1/2, once for each side: with 4 * G g G^T everything is an integer, and the sums are 4 times the direct sums. 4 * acc
must fit into 32 bits, for which MAX_CHANNELS is the limit; sums in between may wrap around.

Rejected: one scale for every pixel (a pixel is an operand of nine outputs, so the scales would not leave the sum).

Shape suffixes: B images, C input channels, O output channels, H x W pixels, I x J pixels with the border, P points of a
tile, T tiles.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from kernels.linear_i8.reference import Int8Weight, epilogue, quantize_rows

TAPS = 3
"""The filter's rows and columns."""

MAX_CHANNELS = (2**31 - 1) // (4 * TAPS * TAPS * 255 * 127)
"""The largest number of input channels for which 4 times a sum fits into 32 bits: 1841."""

Sums: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""acc_BOHW int32 of q_BCIJ uint8 and q_OC33 int8."""


def conv2d(x_BCHW: Tensor, w_OC33: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Returns y_BOHW in the dtype of x_BCHW, computed directly in float64: the definition of the float operation."""
    bias_O = None if bias_O is None else bias_O.double()
    return functional.conv2d(x_BCHW.double(), w_OC33.double(), bias_O, padding=1).to(x_BCHW.dtype)


def adjoint(w_OC33: Tensor) -> Tensor:
    """Returns w_CO33, whose convolution maps the gradient of y to the gradient of x."""
    return w_OC33.transpose(0, 1).flip(2, 3)


def matrices(tile: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Returns A^T [m, m + 2], G [m + 2, 3] and B^T [m + 2, m + 2] of F(m x m, 3 x 3), for m = `tile`, 2 or 4."""
    if tile == 2:
        a = [[1, 1, 1, 0], [0, 1, -1, -1]]
        g = [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]
        b = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
    else:
        a = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
        g = [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
        b = [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    return torch.tensor(a, dtype=dtype), torch.tensor(g, dtype=dtype), torch.tensor(b, dtype=dtype)


def transform_filters(w_OC33: Tensor, tile: int) -> Tensor:
    """Returns u_POC = G g G^T, in the dtype of the filters."""
    _, g, _ = matrices(tile, w_OC33.dtype)
    return (g @ w_OC33 @ g.t()).flatten(2).permute(2, 0, 1)


def transform_images(x_BCIJ: Tensor, tile: int) -> Tensor:
    """Returns v_PCT = B^T d B of every tile of m x m outputs, for images with their border, in the images' dtype.

    A tile that is cut off by the end of the image is filled with zeros.
    """
    _, _, b = matrices(tile, x_BCIJ.dtype)
    height, width = (size - 2 for size in x_BCIJ.shape[2:])
    filled = functional.pad(x_BCIJ, (0, -width % tile, 0, -height % tile))
    d = filled.unfold(2, tile + 2, tile).unfold(3, tile + 2, tile)
    return (b @ d @ b.t()).flatten(4).permute(4, 1, 0, 2, 3).flatten(2)


def multiply(u_POC: Tensor, v_PCT: Tensor) -> Tensor:
    """Returns the products at each point, summed over the input channels: the multiplications that Winograd counts."""
    return torch.bmm(u_POC, v_PCT)


def transform_products(m_POT: Tensor, tile: int, size: tuple[int, int]) -> Tensor:
    """Returns y_BOHW = A^T m A of all tiles, for images of H x W = `size` pixels."""
    a, _, _ = matrices(tile, m_POT.dtype)
    height, width = size
    down, across = -(-height // tile), -(-width // tile)
    side = tile + 2
    m = m_POT.reshape(side, side, m_POT.shape[1], -1, down, across).permute(3, 2, 4, 5, 0, 1)
    y: Tensor = (a @ m @ a.t()).transpose(3, 4).flatten(4).flatten(2, 3)
    return y[:, :, :height, :width]


def winograd(x_BCHW: Tensor, w_OC33: Tensor, tile: int) -> Tensor:
    """Returns y_BOHW by F(m x m, 3 x 3) with m = `tile`, 2 or 4, in the dtype of x and w."""
    height, width = x_BCHW.shape[2:]
    v_PCT = transform_images(functional.pad(x_BCHW, (1, 1, 1, 1)), tile)
    return transform_products(multiply(transform_filters(w_OC33, tile), v_PCT), tile, (height, width))


def quantize_images(x_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns q_BCIJ uint8 with the border, and scale_B1 and min_B1 float32, as `linear_i8` quantizes rows."""
    bordered = functional.pad(x_BCHW, (1, 1, 1, 1))
    q_BK, scale_B1, min_B1 = quantize_rows(bordered.flatten(1))
    return q_BK.view(bordered.shape), scale_B1, min_B1


def accumulate(q_BCIJ: Tensor, q_OC33: Tensor) -> Tensor:
    """Returns acc_BOHW int32, which is exact: float64 represents all sums of 8-bit products exactly."""
    return functional.conv2d(q_BCIJ.double(), q_OC33.double()).to(torch.int32)


def transform_filters_int16(q_OC33: Tensor) -> Tensor:
    """Returns u_POC int16 = 4 * G g G^T of F(2x2,3x3), whose magnitude is at most 9 * 127."""
    return (4 * transform_filters(q_OC33.double(), 2)).to(torch.int16)


def winograd_sums(q_BCIJ: Tensor, q_OC33: Tensor) -> Tensor:
    """Returns acc_BOHW int32, equal to `accumulate`, by F(2x2,3x3) in integers, for up to MAX_CHANNELS channels."""
    height, width = (size - 2 for size in q_BCIJ.shape[2:])
    v_PCT = transform_images(q_BCIJ.int(), 2)
    sums = transform_products(multiply(transform_filters_int16(q_OC33).int(), v_PCT), 2, (height, width))
    return sums >> 2


def conv2d_i8(x_BCHW: Tensor, q_OC33: Tensor, weight: Int8Weight, *, sums: Sums = accumulate) -> Tensor:
    """Returns y_BOHW float32: the definition of the INT8 operation. `weight` has the filters as rows."""
    q_BCIJ, scale_B1, min_B1 = quantize_images(x_BCHW)
    acc_BHWO = sums(q_BCIJ, q_OC33).permute(0, 2, 3, 1)
    num_pixels = acc_BHWO.shape[1] * acc_BHWO.shape[2]
    scaled_MO = acc_BHWO.reshape(-1, len(q_OC33)).float() * weight.scale_N
    scale_M1, min_M1 = (each.repeat_interleave(num_pixels, dim=0) for each in (scale_B1, min_B1))
    return epilogue(scaled_MO, scale_M1, min_M1, weight).view(acc_BHWO.shape).permute(0, 3, 1, 2)
