"""The INT4 linear layer built from torch's operations: the INT8 layer on a weight that is unpacked at every call.

Torch has no product of nibbles and 8-bit rows, so this implementation is never faster than INT8. It exists so that INT4
can be measured and served on every machine, with the same bits as on those where it is fast. Hence it stores only the
nibbles and their multipliers.

Rejected: unpacking once (as many bytes again as the INT8 weight, for a precision that saves none here).
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from kernels import linear_i8
from kernels.dispatch import Impl
from kernels.linear_i4.reference import Int4Weight, high_plane

RowFunction: TypeAlias = Callable[[Tensor], Tensor]
Pack: TypeAlias = Callable[[Int4Weight], RowFunction]


def _unpacked(weight: Int4Weight) -> RowFunction:
    def linear(x_MK: Tensor) -> Tensor:
        q4_NK = high_plane(weight.hi_NJ, weight.m_NG)
        return linear_i8.linear_i8(x_MK, linear_i8.pack(q4_NK, weight.scale_N, weight.bias_N, once=True))

    return linear


LIBRARY: tuple[Impl[Pack], ...] = (Impl("library/unpacked", lambda *_: [], _unpacked),)
