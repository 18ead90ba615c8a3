"""The INT8 linear layer in our own C: rows are quantized, multiplied and finished a few at a time, in the cache.

Int8Weight --pack--> panels of 64 outputs (source/weight.h) --linear--> y_MN        the same bits as the reference
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
"""What is done to y before it is stored: nothing, the GELU, or y is added to what is there."""


def pack_weight(weight: Int8Weight) -> Tensor:
    """The weight as the kernels read it, uint8: equal for every way to compute."""
    library = native.library()
    assert library is not None, "asked for kernels that are not there"
    num_out, num_in = weight.q_NK.shape
    packed = torch.empty(library.weight_bytes(8, num_out, num_in), dtype=torch.uint8)
    floats = (weight.scale_N, weight.bias_N, weight.scaled_ksum_N)
    library.pack_i8(address(weight.q_NK), *map(address, floats), num_out, num_in, address(packed))
    return packed


def linear(x_MK: Tensor, packed: Tensor, num_out: int, *, way: str | None = None, finish: int = PLAIN) -> Tensor:
    """y_MN = finish(x w^T + bias), for float32 rows and a weight that `pack_weight` made (of INT8 or INT4)."""
    x_MK = x_MK.contiguous()
    y_MN = x_MK.new_empty(len(x_MK), num_out)
    native.done(native.kernels(way).linear(finish, address(x_MK), len(x_MK), address(packed), address(y_MN)))
    return y_MN


def _packer(way: str) -> Callable[[Int8Weight], Callable[[Tensor], Tensor]]:
    def pack(weight: Int8Weight) -> Callable[[Tensor], Tensor]:
        return functools.partial(linear, packed=pack_weight(weight), num_out=len(weight.q_NK), way=way)

    return pack


NATIVE: tuple[Impl[Callable[[Int8Weight], Callable[[Tensor], Tensor]]], ...] = tuple(
    Impl(f"native/{way}", functools.partial(lambda way, *_: native.why_not(way), way), _packer(way))
    for way in native.WAYS
)
