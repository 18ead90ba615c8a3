"""The sparse INT8 linear layer in our own C, which multiplies only the stored blocks.

SparseWeight --pack_weight--> blocks, starts and quads (source/blocks.h) --linear--> y_MN, the bits of the reference
SparseWeight --pack_fastest--> the same, or the dense INT8 panels, whichever is faster on this machine

A packed weight has the header of a dense one, so it can stand in its place in every native call.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from kernels import linear_i8, native
from kernels.dispatch import Impl, best_seconds
from kernels.linear_i8.native import linear
from kernels.native import address
from kernels.sparse_i8.reference import GROUP_OUT, QUAD, SparseWeight

MEASURED_ROWS = 64
"""The number of rows at which sparse and dense are compared: a few texts."""

BUDGET_S = 0.01
"""The time in which one of the two is measured, in seconds."""

DENSITY_STEPS = 20
"""The classes of density that are measured: one for each 5 %."""


def pack_weight(weight: SparseWeight) -> Tensor:
    """Returns the packed weight, uint8. The bytes are the same for every instruction set."""
    library = native.library()
    assert library is not None, "asked for kernels that are not there"
    starts_G = torch.nn.functional.pad(weight.mask_GQ.sum(dim=1).cumsum(dim=0), (1, 0)).int()
    # The bytes of uint16: torch has few operations for this type.
    quads_B = weight.mask_GQ.nonzero()[:, 1].to(torch.uint16)
    blocks_BNQ = weight.blocks_BNQ.contiguous()
    dense = weight.as_int8()
    packed = torch.empty(library.sparse_bytes(weight.num_out, len(blocks_BNQ)), dtype=torch.uint8)
    library.pack_sparse(
        *map(address, (blocks_BNQ, quads_B, starts_G, dense.scale_N, dense.bias_N, dense.scaled_ksum_N)),
        weight.num_out,
        weight.num_in,
        address(packed),
    )
    return packed


def pack_fastest(weight: SparseWeight) -> Tensor:
    """Returns the packed weight, or the same weight packed as a dense one if this is faster at MEASURED_ROWS rows."""
    step = round(weight.density * DENSITY_STEPS)
    if _is_faster(weight.num_out, weight.num_in, step):
        return pack_weight(weight)
    return linear_i8.native.pack_weight(weight.as_int8())


@functools.cache
def _is_faster(num_out: int, num_in: int, density_step: int) -> bool:
    """Measures whether the sparse layer is faster than the dense one, once per shape, density and process."""
    generator = torch.Generator().manual_seed(0)
    shape = (num_out // GROUP_OUT, num_in // QUAD)
    mask_GQ = torch.rand(shape, generator=generator) < density_step / DENSITY_STEPS
    blocks_BNQ = torch.ones(int(mask_GQ.sum()), GROUP_OUT, QUAD, dtype=torch.int8)
    weight = SparseWeight(mask_GQ, blocks_BNQ, torch.ones(num_out), None)
    x_MK = torch.randn(MEASURED_ROWS, num_in, generator=generator)
    seconds: list[float] = []
    for packed in (pack_weight(weight), linear_i8.native.pack_weight(weight.as_int8())):
        seconds.append(best_seconds(functools.partial(linear, x_MK, packed, num_out), budget_s=BUDGET_S))
    return seconds[0] <= seconds[1]


def _packer(isa: str) -> Callable[[SparseWeight], Callable[[Tensor], Tensor]]:
    def pack(weight: SparseWeight) -> Callable[[Tensor], Tensor]:
        return functools.partial(linear, packed=pack_weight(weight), num_out=weight.num_out, isa=isa)

    return pack


NATIVE: tuple[Impl[Callable[[SparseWeight], Callable[[Tensor], Tensor]]], ...] = tuple(
    Impl(f"native/{isa}", functools.partial(lambda isa, *_: native.why_unavailable(isa), isa), _packer(isa))
    for isa in native.ISAS
)
