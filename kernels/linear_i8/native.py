"""The INT8 linear layer in our own C: a few rows at a time are quantized and multiplied, and stay in the cache.

Int8Weight --pack_weight--> panels of 64 outputs (source/weight.h) --linear--> y_MN     the reference's bits
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from kernels import native
from kernels.dispatch import Impl
from kernels.linear_i8.reference import Int8Weight
from kernels.native import address

PLAIN, GELU, ADD = range(3)
"""The last operation of the epilogue: y is stored, gelu(y) is stored, or y is added to the stored values."""


def pack_weight(weight: Int8Weight) -> Tensor:
    """Returns the packed weight, uint8: the same bytes for every instruction set."""
    library = native.library()
    assert library is not None, "asked for kernels that are not there"
    num_out, num_in = weight.q_NK.shape
    packed = torch.empty(library.weight_bytes(8, num_out, num_in), dtype=torch.uint8)
    floats = (weight.scale_N, weight.bias_N, weight.scaled_ksum_N)
    library.pack_i8(address(weight.q_NK), *map(address, floats), num_out, num_in, address(packed))
    return packed


def linear(x_MK: Tensor, packed: Tensor, num_out: int, *, isa: str | None = None, epilogue: int = PLAIN) -> Tensor:
    """Returns y_MN = epilogue(x w^T + bias) for float32 rows and an INT8 or INT4 weight from `pack_weight`."""
    x_MK = x_MK.contiguous()
    y_MN = x_MK.new_empty(len(x_MK), num_out)
    run = native.kernels(isa).linear
    native.raise_for_status(run(epilogue, address(x_MK), len(x_MK), address(packed), address(y_MN)))
    return y_MN


def _packer(isa: str) -> Callable[[Int8Weight], Callable[[Tensor], Tensor]]:
    def pack(weight: Int8Weight) -> Callable[[Tensor], Tensor]:
        return functools.partial(linear, packed=pack_weight(weight), num_out=len(weight.q_NK), isa=isa)

    return pack


NATIVE: tuple[Impl[Callable[[Int8Weight], Callable[[Tensor], Tensor]]], ...] = tuple(
    Impl(f"native/{isa}", functools.partial(lambda isa, *_: native.why_not(isa), isa), _packer(isa))
    for isa in native.ISAS
)
