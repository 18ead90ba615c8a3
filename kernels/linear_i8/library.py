"""The INT8 linear layer built from torch's operations: one pass quantizes, one multiplies, two are the epilogue.

Rows are quantized by torch's packer for embedding tables: one call finds minimum and maximum, rounds, and stores the
scale and the minimum in eight bytes behind the row. The weight has zero columns at these eight bytes, so the packed row
is multiplied as it is, without a copy. There are three multipliers:

- `onednn`: oneDNN's quantized linear layer, which applies scale_N before the sums leave the registers. It is the best
  from about 100 tokens on.
- `int_mm`: `torch._int_mm`, which has less overhead. It is the best for a few tokens.
- `float`: float32 products of at most 512 columns, in which every partial sum is an exact integer. It is for processors
  on which the other two are missing or wrong (without VNNI, pairs of products saturate at 16 bits on some processors).

A probe with extreme values decides whether a multiplier is right on this processor, not the processor's name.

Shape suffixes: M tokens, K inputs, N outputs, P bytes of a packed row.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from kernels.dispatch import Impl
from kernels.linear_i8 import reference
from kernels.linear_i8.reference import Int8Weight

RowFunction: TypeAlias = Callable[[Tensor], Tensor]
Pack: TypeAlias = Callable[[Int8Weight], RowFunction]
Multiply: TypeAlias = Callable[[Tensor], Tensor]

TAIL = 8
"""The bytes behind every packed row: its scale and its minimum, each float32."""

ALIGN = 4
"""Rows are padded to a multiple of this many columns, so that the tail can be read as floats."""

EXACT_COLUMNS = 512
"""A float32 sum of this many products is exact in any order, because 255 * 127 * 512 < 2**24."""


def pack_rows(x_MK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns packed_MP uint8 (row, padding and tail), scale_M1 and min_M1: the same values as `quantize_rows`."""
    num_padding = -x_MK.shape[1] % ALIGN
    if num_padding:
        # The padding is a value of the row, so it does not change the range of the row.
        x_MK = torch.cat((x_MK, x_MK[:, :1].expand(-1, num_padding)), dim=1)
    packed_MP = torch.ops.quantized.embedding_bag_byte_prepack(x_MK)
    floats = packed_MP.view(torch.float32)
    return packed_MP, floats[:, -2:-1], floats[:, -1:]


def pad_weight(q_NK: Tensor) -> Tensor:
    """Returns w_NP int8: the weight with zero columns where `pack_rows` appends bytes to a row."""
    return torch.nn.functional.pad(q_NK, (0, -q_NK.shape[1] % ALIGN + TAIL))


def _onednn(w_NP: Tensor, scale_N: Tensor) -> Multiply:
    prepacked = torch.ops.onednn.qlinear_prepack(w_NP, None)
    zero_N = torch.zeros(len(scale_N), dtype=torch.int64)
    multiply = torch.ops.onednn.qlinear_pointwise.default

    def run(packed_MP: Tensor) -> Tensor:
        scaled: Tensor = multiply(
            packed_MP, 1.0, 0, prepacked, scale_N, zero_N, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return scaled

    return run


def _int_mm(w_NP: Tensor, scale_N: Tensor) -> Multiply:
    w_PN = w_NP.t()
    return lambda packed_MP: torch.mul(torch._int_mm(packed_MP, w_PN), scale_N)


def _float(w_NP: Tensor, scale_N: Tensor) -> Multiply:
    parts = [part.float().t() for part in torch.split(w_NP, EXACT_COLUMNS, dim=1)]

    def run(packed_MP: Tensor) -> Tensor:
        columns = torch.split(packed_MP, EXACT_COLUMNS, dim=1)
        acc_MN = torch.mm(columns[0].float(), parts[0]).int()
        for column, part in zip(columns[1:], parts[1:], strict=True):
            acc_MN += torch.mm(column.float(), part).int()
        return acc_MN.float() * scale_N

    return run


def _packer(multiplier: Callable[[Tensor, Tensor], Multiply]) -> Pack:
    def pack(weight: Int8Weight) -> RowFunction:
        multiply = multiplier(pad_weight(weight.q_NK), weight.scale_N)

        def linear(x_MK: Tensor) -> Tensor:
            packed_MP, scale_M1, min_M1 = pack_rows(x_MK)
            return reference.epilogue(multiply(packed_MP), scale_M1, min_M1, weight)

        return linear

    return pack


def _extreme_operands() -> tuple[Tensor, Tensor]:
    """Returns rows u8 and weights s8 whose sums of two neighbouring products exceed 16 bits."""
    q_MK = torch.full((19, 4 * 17), 255, dtype=torch.uint8)
    w_NK = torch.full((21, 4 * 17), 127, dtype=torch.int8)
    w_NK[1::2] = -127
    w_NK[::3, ::2] = -1
    return q_MK, w_NK


def _why_not(name: str, multiplier: Callable[[Tensor, Tensor], Multiply]) -> Callable[..., list[str]]:
    @functools.cache
    def probe() -> tuple[str, ...]:
        q_MK, w_NK = _extreme_operands()
        try:
            acc_MN = multiplier(w_NK, torch.ones(len(w_NK)))(q_MK)
        except (RuntimeError, AttributeError) as error:
            # The operation is missing, or was compiled without this dtype.
            return (f"torch {torch.__version__} has no {name} here: {str(error).splitlines()[0]}",)
        exact = torch.equal(acc_MN, reference.accumulate(q_MK, w_NK).float())
        return () if exact else (f"{name} gives wrong sums for extreme values on this processor",)

    return lambda *_: list(probe())


def _impl(name: str, multiplier: Callable[[Tensor, Tensor], Multiply]) -> Impl[Pack]:
    return Impl(f"library/{name}", _why_not(name, multiplier), _packer(multiplier))


INT_MM: Impl[Pack] = _impl("int_mm", _int_mm)
"""Multiplies by a weight as it is, while `onednn` repacks the weight first."""

INT8: tuple[Impl[Pack], ...] = (_impl("onednn", _onednn), INT_MM)
"""The candidates for measuring. The first is preferred if nothing is measured."""

LIBRARY: tuple[Impl[Pack], ...] = (*INT8, _impl("float", _float))
"""All implementations from torch's operations, in order of preference. The last is slower, but runs everywhere."""
