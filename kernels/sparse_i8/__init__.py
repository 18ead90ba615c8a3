"""The sparse INT8 linear layer, y = x @ (q * scale)^T + bias: most blocks of 16 outputs by four inputs of q are zero.

`reference.py` defines it, and `native.py` calls our own C. This file builds it from torch's operations, checks the
arguments, and chooses the implementation. All implementations give the same bits, also as `linear_i8` on the matrix
with its zeros. So LIBRARY is that layer: torch's own sparse product is for floats, and slower. Callers use `pack` once
for each weight, and `sparse_i8`.

Shape suffixes: M tokens, K inputs, N outputs, B stored blocks, G = N / 16 groups of outputs, Q = K / 4 quads of inputs.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kernels import linear_i8
from kernels.dispatch import Impl, choose, forced
from kernels.sparse_i8 import reference
from kernels.sparse_i8.native import NATIVE
from kernels.sparse_i8.reference import GROUP_OUT, QUAD, SparseWeight

__all__ = ["IMPLS", "PackedSparse", "pack", "sparse_i8"]

RowFunction: TypeAlias = Callable[[Tensor], Tensor]
Pack: TypeAlias = Callable[[SparseWeight], RowFunction]

MAX_QUADS = 1 << 16
"""The largest number of quads that the index of a block, 16 bits, can tell apart."""


def _with_zeros(weight: SparseWeight) -> RowFunction:
    dense = weight.as_int8()
    return functools.partial(linear_i8.linear_i8, packed=linear_i8.pack(dense.q_NK, dense.scale_N, dense.bias_N))


LIBRARY: tuple[Impl[Pack], ...] = (Impl("library/dense", lambda *_: [], _with_zeros),)

IMPLS: tuple[Impl[Pack], ...] = (
    *NATIVE,
    *LIBRARY,
    Impl("reference", lambda *_: [], lambda weight: functools.partial(reference.linear, weight=weight)),
)


@dataclass(frozen=True, slots=True)
class PackedSparse:
    """A weight in the layout of the chosen implementation. Only `sparse_i8` reads it."""

    num_in: int
    num_out: int
    name: str
    run: RowFunction


def pack(mask_GQ: Tensor, blocks_BNQ: Tensor, scale_N: Tensor, bias_N: Tensor | None = None) -> PackedSparse:
    """Prepares the weight of `blocks_BNQ`, int8 [B, 16, 4], at the places where `mask_GQ`, bool, is True.

    Raises ValueError for another dtype or shape, or another number of blocks.
    """
    _check_weight(mask_GQ, blocks_BNQ, scale_N, bias_N)
    weight = SparseWeight(mask_GQ, blocks_BNQ, scale_N, bias_N)
    impl = choose("sparse_i8", IMPLS, force=forced())
    return PackedSparse(weight.num_in, weight.num_out, impl.name, impl.run(weight))


def sparse_i8(x_MK: Tensor, packed: PackedSparse) -> Tensor:
    """Returns y_MN float32 for float32 rows x_MK, M >= 0. Raises ValueError for another dtype or width.

    The values must be finite. This is not checked, because a check would read them once more.
    """
    if x_MK.dim() != 2 or x_MK.shape[1] != packed.num_in or x_MK.dtype != torch.float32:
        raise ValueError(
            f"x_MK is {x_MK.dtype} {tuple(x_MK.shape)}; expected float32 rows of {packed.num_in} columns [M, K]"
        )
    return packed.run(x_MK) if len(x_MK) else x_MK.new_empty(0, packed.num_out)


def _check_weight(mask_GQ: Tensor, blocks_BNQ: Tensor, scale_N: Tensor, bias_N: Tensor | None) -> None:
    if mask_GQ.dtype != torch.bool or mask_GQ.dim() != 2 or 0 in mask_GQ.shape or mask_GQ.shape[1] > MAX_QUADS:
        raise ValueError(
            f"mask_GQ is {mask_GQ.dtype} {tuple(mask_GQ.shape)}; "
            f"expected bool [N / 16, K / 4] with K <= {QUAD * MAX_QUADS}"
        )
    expected = (int(mask_GQ.sum()), GROUP_OUT, QUAD)
    if blocks_BNQ.dtype != torch.int8 or tuple(blocks_BNQ.shape) != expected:
        raise ValueError(f"blocks_BNQ is {blocks_BNQ.dtype} {tuple(blocks_BNQ.shape)}; expected int8 {list(expected)}")
    num_out = GROUP_OUT * len(mask_GQ)
    for name, value in (("scale_N", scale_N), ("bias_N", bias_N)):
        if value is not None and (not value.is_floating_point() or tuple(value.shape) != (num_out,)):
            raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}; expected floats [{num_out}]")
