"""The INT4 linear layer, y = x @ (m * hi * scale)^T + bias: the INT4 weight inside a nested INT8 weight.

`reference.py` defines it, and `native.py` calls our own C. This file builds it from torch's operations, checks the
arguments, and chooses the implementation. INT4 is the precision of the weight only: x is quantized to 8-bit rows, as
for `linear_i8`. All implementations give the same bits. Callers use `pack` once for each weight, and `linear_i4`.

Torch has no product of nibbles and 8-bit rows. So `LIBRARY` is the INT8 layer on a weight that is unpacked at every
call, which is never faster than INT8. It exists so that INT4 can be measured and served on every machine, with the same
bits as on machines where it is fast. It keeps only the nibbles and their multipliers in memory.

Shape suffixes: M tokens, K inputs, N outputs, J = K / 2 bytes, G = K / 64 groups.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kernels import linear_i8
from kernels.dispatch import Impl, choose, forced
from kernels.linear_i4 import reference
from kernels.linear_i4.native import NATIVE
from kernels.linear_i4.reference import GROUP, MAX_MULTIPLIER, Int4Weight, high_plane

__all__ = ["IMPLS", "PackedLinear4", "linear_i4", "pack"]

RowFunction: TypeAlias = Callable[[Tensor], Tensor]
Pack: TypeAlias = Callable[[Int4Weight], RowFunction]


def _unpacked(weight: Int4Weight) -> RowFunction:
    def linear(x_MK: Tensor) -> Tensor:
        q4_NK = high_plane(weight.hi_NJ, weight.m_NG)
        return linear_i8.linear_i8(x_MK, linear_i8.pack(q4_NK, weight.scale_N, weight.bias_N, once=True))

    return linear


LIBRARY: tuple[Impl[Pack], ...] = (Impl("library/unpacked", lambda *_: [], _unpacked),)

IMPLS: tuple[Impl[Pack], ...] = (
    *NATIVE,
    *LIBRARY,
    Impl("reference", lambda *_: [], lambda weight: functools.partial(reference.linear, weight=weight)),
)


@dataclass(frozen=True, slots=True)
class PackedLinear4:
    """A weight in the layout of the chosen implementation. Only `linear_i4` reads it."""

    num_in: int
    num_out: int
    name: str
    run: RowFunction


def pack(hi_NJ: Tensor, m_NG: Tensor, scale_N: Tensor, bias_N: Tensor | None = None) -> PackedLinear4:
    """Prepares the weight `scale_N[:, None] * m * hi` and `bias_N` (float or None) for `linear_i4`.

    hi_NJ is uint8: byte j holds input 2j in its low nibble and input 2j + 1 in its high nibble, in two's complement.
    m_NG is uint8, from 1 to 16: the multiplier of each group of 64 inputs. Raises ValueError for another dtype, shape
    or multiplier.
    """
    _check_weight(hi_NJ, m_NG, scale_N, bias_N)
    weight = Int4Weight(hi_NJ, m_NG, scale_N, bias_N)
    impl = choose("linear_i4", IMPLS, weight, force=forced())
    num_out, num_bytes = hi_NJ.shape
    return PackedLinear4(2 * num_bytes, num_out, impl.name, impl.run(weight))


def linear_i4(x_MK: Tensor, packed: PackedLinear4) -> Tensor:
    """Returns y_MN float32 for float32 rows x_MK, M >= 0. Raises ValueError for another dtype or width.

    The values must be finite. This is not checked, because a check would read them once more.
    """
    if x_MK.dim() != 2 or x_MK.shape[1] != packed.num_in or x_MK.dtype != torch.float32:
        raise ValueError(
            f"x_MK is {x_MK.dtype} {tuple(x_MK.shape)}; expected float32 rows of {packed.num_in} columns [M, K]"
        )
    return packed.run(x_MK) if len(x_MK) else x_MK.new_empty(0, packed.num_out)


def _check_weight(hi_NJ: Tensor, m_NG: Tensor, scale_N: Tensor, bias_N: Tensor | None) -> None:
    if hi_NJ.dtype != torch.uint8 or hi_NJ.dim() != 2 or 0 in hi_NJ.shape or 2 * hi_NJ.shape[1] % GROUP:
        raise ValueError(
            f"hi_NJ is {hi_NJ.dtype} {tuple(hi_NJ.shape)}; expected uint8 [N, K / 2] with K a multiple of {GROUP}"
        )
    expected = (hi_NJ.shape[0], 2 * hi_NJ.shape[1] // GROUP)
    if m_NG.dtype != torch.uint8 or tuple(m_NG.shape) != expected:
        raise ValueError(f"m_NG is {m_NG.dtype} {tuple(m_NG.shape)}; expected uint8 {list(expected)}")
    if int(m_NG.min()) < 1 or int(m_NG.max()) > MAX_MULTIPLIER:
        raise ValueError(f"m_NG has values from {m_NG.min()} to {m_NG.max()}; expected 1 to {MAX_MULTIPLIER}")
    for name, value in (("scale_N", scale_N), ("bias_N", bias_N)):
        if value is not None and (not value.is_floating_point() or tuple(value.shape) != expected[:1]):
            raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}; expected floats [{expected[0]}]")
