"""The 3 x 3 convolution in our own C: Winograd's F(2x2,3x3) and F(4x4,3x3) in float32, and two ways in 8-bit integers.

    float32    w_OC33 --pack_winograd--> packed filters (source/winograd.h) --winograd--> y_BOHW
    INT8       q_OC33 --pack_i8--> panels of a linear layer --conv2d_i8--> y_BOHW
               q_OC33 --pack_exact--> 16-bit transformed filters --exact--> y_BOHW, the same bits

The C reads and writes images pixel by pixel: torch's channels_last. An image in another format is copied first, and the
result is in channels_last. All instruction sets give the same bits, in float32 as well.

Shape suffixes: B images, C input channels, O output channels, H x W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from kernels import native
from kernels.conv2d.reference import transform_filters_int16
from kernels.linear_i8.native import pack_weight
from kernels.linear_i8.reference import Int8Weight
from kernels.native import address
from kernels.native.binding import ConvShape

PANEL = 32
"""The outputs of a panel of transformed filters."""

QUAD = 4
"""The input channels of one 8-bit multiply-add. The channels of a pixel are rounded up to a whole quad."""


def pack_winograd(
    w_OC33: Tensor, bias_O: Tensor | None, tile: int, *, adjoint: bool = False, isa: str | None = None
) -> Tensor:
    """Returns the packed filters of F(tile x tile, 3 x 3), float32, for a tile of 2 or 4.

    With `adjoint` they are the filters of the gradient of x, and the bias has C values.
    """
    w_OC33 = w_OC33.contiguous()
    bias_O = None if bias_O is None else bias_O.contiguous()
    num_in, num_out = w_OC33.shape[:2] if adjoint else w_OC33.shape[1::-1]
    packed = torch.empty(_rounded(num_out, PANEL) * ((tile + 2) ** 2 * num_in + 1))
    bias = None if bias_O is None else address(bias_O)
    native.kernels(isa).pack_winograd(tile, address(w_OC33), bias, num_out, num_in, adjoint, address(packed))
    return packed


def winograd(x_BCHW: Tensor, packed: Tensor, num_out: int, tile: int, *, isa: str | None = None) -> Tensor:
    """Returns y_BOHW float32 for float32 images. `packed` is the result of `pack_winograd` for the same tile."""
    x_BHWC, images, y_BHWO = _prepared(x_BCHW, num_out)
    run = native.kernels(isa).winograd
    threads = torch.get_num_threads()
    native.raise_for_status(run(tile, address(x_BHWC), images, address(packed), threads, address(y_BHWO)))
    return y_BHWO.permute(0, 3, 1, 2)


def pack_i8(q_OC33: Tensor, weight: Int8Weight) -> Tensor:
    """Returns the packed weight of a linear layer of the nine neighbours: column by column, row by row, channels."""
    num_padding = -q_OC33.shape[1] % QUAD
    columns_OWHC = functional.pad(q_OC33.permute(0, 3, 2, 1), (0, num_padding))
    rows = Int8Weight(columns_OWHC.flatten(1).contiguous(), weight.scale_N, weight.bias_N, weight.scaled_ksum_N)
    return pack_weight(rows)


def conv2d_i8(x_BCHW: Tensor, packed: Tensor, num_out: int, *, isa: str | None = None) -> Tensor:
    """Returns y_BOHW float32, directly. `packed` is the result of `pack_i8`."""
    x_BHWC, images, y_BHWO = _prepared(x_BCHW, num_out)
    run = native.kernels(isa).convolve
    threads = torch.get_num_threads()
    native.raise_for_status(run(address(x_BHWC), images, address(packed), threads, address(y_BHWO)))
    return y_BHWO.permute(0, 3, 1, 2)


def pack_exact(q_OC33: Tensor, weight: Int8Weight) -> tuple[Tensor, Tensor]:
    """Returns the filters of F(2x2,3x3) in integers, int16 [panels, 16, pairs of C, 32, 2], and the floats [3, O]."""
    u_POC = transform_filters_int16(q_OC33)
    num_out, num_in = q_OC33.shape[:2]
    outputs = _rounded(num_out, PANEL) - num_out
    u_POC = functional.pad(u_POC, (0, num_in % 2, 0, outputs))
    filters = u_POC.reshape(len(u_POC), -1, PANEL, u_POC.shape[2] // 2, 2).permute(1, 0, 3, 2, 4).contiguous()
    floats = torch.stack((weight.scale_N, weight.bias_N, weight.scaled_ksum_N))
    return filters, functional.pad(floats, (0, outputs))


def exact(x_BCHW: Tensor, packed: tuple[Tensor, Tensor], num_out: int, *, isa: str | None = None) -> Tensor:
    """Returns y_BOHW float32 by F(2x2,3x3), bit-equal to `conv2d_i8`. `packed` is the result of `pack_exact`."""
    x_BHWC, images, y_BHWO = _prepared(x_BCHW, num_out)
    run = native.kernels(isa).convolve_winograd
    threads = torch.get_num_threads()
    filters, floats = map(address, packed)
    native.raise_for_status(run(address(x_BHWC), images, filters, floats, threads, address(y_BHWO)))
    return y_BHWO.permute(0, 3, 1, 2)


def _prepared(x_BCHW: Tensor, num_out: int) -> tuple[Tensor, ConvShape, Tensor]:
    """Returns the images pixel by pixel, their record, and an uninitialised result."""
    num_images, num_in, height, width = x_BCHW.shape
    x_BHWC = x_BCHW.permute(0, 2, 3, 1).contiguous()
    y_BHWO = x_BCHW.new_empty(num_images, height, width, num_out)
    return x_BHWC, ConvShape(num_images, height, width, num_in, num_out), y_BHWO


def _rounded(count: int, to: int) -> int:
    """Returns the least multiple of `to` that is not below `count`."""
    return -(-count // to) * to
