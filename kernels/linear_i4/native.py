"""The INT4 linear layer in our own C: it unpacks nibbles in registers, and multiplies the sum of a group by its m."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from kernels import native
from kernels.dispatch import Impl
from kernels.linear_i4.reference import Int4Weight
from kernels.linear_i8.native import linear
from kernels.native import address


def pack_weight(weight: Int4Weight) -> Tensor:
    """Returns the packed high plane, uint8: a header and panels, with 0.53 times the bytes of INT8."""
    library = native.library()
    assert library is not None, "asked for kernels that are not there"
    as_int8 = weight.as_int8()
    num_out, num_in = as_int8.q_NK.shape
    packed = torch.empty(library.weight_bytes(4, num_out, num_in), dtype=torch.uint8)
    hi_NJ = weight.hi_NJ.contiguous()
    m_NG = weight.m_NG.contiguous()
    floats = (as_int8.scale_N, as_int8.bias_N, as_int8.scaled_ksum_N)
    library.pack_i4(address(hi_NJ), address(m_NG), *map(address, floats), num_out, num_in, address(packed))
    return packed


def _packer(isa: str) -> Callable[[Int4Weight], Callable[[Tensor], Tensor]]:
    def pack(weight: Int4Weight) -> Callable[[Tensor], Tensor]:
        return functools.partial(linear, packed=pack_weight(weight), num_out=len(weight.hi_NJ), isa=isa)

    return pack


NATIVE: tuple[Impl[Callable[[Int4Weight], Callable[[Tensor], Tensor]]], ...] = tuple(
    Impl(f"native/{isa}", functools.partial(lambda isa, *_: native.why_unavailable(isa), isa), _packer(isa))
    for isa in native.ISAS
)
