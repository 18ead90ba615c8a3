"""The INT8 linear layer in our own C: it quantizes and multiplies a few rows at a time, which stay in the cache.

Int8Weight --pack_weight--> panels of 64 outputs (source/weight.h) --linear--> y_MN, the same bits as the reference
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
"""The last operation of the epilogue: store y, store gelu(y), or add y to the stored values."""


def pack_weight(weight: Int8Weight) -> Tensor:
    """Returns the packed weight, uint8: a header and panels. The bytes are the same for every instruction set."""
    library = native.library()
    assert library is not None, "asked for kernels that are not there"
    num_out, num_in = weight.q_NK.shape
    packed = torch.empty(library.weight_bytes(8, num_out, num_in), dtype=torch.uint8)
    floats = (weight.scale_N, weight.bias_N, weight.scaled_ksum_N)
    library.pack_i8(address(weight.q_NK), *map(address, floats), num_out, num_in, address(packed))
    return packed


def linear(x_MK: Tensor, packed: Tensor, num_out: int, *, isa: str | None = None, epilogue: int = PLAIN) -> Tensor:
    """Returns y_MN float32 = epilogue(x w^T + bias) for float32 rows x_MK and an INT8 or INT4 weight.

    `packed` is the result of `pack_weight`, here or in `kernels.linear_i4.native`. `isa` forces an instruction set.
    """
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
    Impl(f"native/{isa}", functools.partial(lambda isa, *_: native.why_unavailable(isa), isa), _packer(isa))
    for isa in native.ISAS
)
