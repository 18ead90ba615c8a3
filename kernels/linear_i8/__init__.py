"""The INT8 linear layer, y = x @ (q * scale)^T + bias: a scale for each output, and dynamically quantized rows of x.

`reference.py` defines it, `native.py` calls our own C, and `library.py` builds it from torch's operations. This file
checks the arguments and chooses the implementation. The choice cannot change a result, because all implementations give
the same bits. Our C is the fastest at every shape, so it is chosen if it can run. Of torch's operations, the fastest
depends on the number of rows M. So a packed weight holds the best one for each class of M, measured once per shape and
process, within `BUDGET_S`. Callers use `pack` once for each weight, and `linear_i8`.

Shape suffixes: M tokens, K inputs, N outputs.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.dispatch import Impl, best_seconds, choose, forced
from kernels.linear_i8 import reference
from kernels.linear_i8.library import INT8, INT_MM, LIBRARY, Pack, RowFunction
from kernels.linear_i8.native import NATIVE
from kernels.linear_i8.reference import Int8Weight

__all__ = ["IMPLS", "PackedLinear", "linear_i8", "pack"]

REFERENCE: Impl[Pack] = Impl(
    "reference", lambda *_: [], lambda weight: functools.partial(reference.linear, weight=weight)
)

IMPLS: tuple[Impl[Pack], ...] = (*NATIVE, *LIBRARY, REFERENCE)


MAX_ROWS = (4, 32, 1 << 62)
"""The largest M of each class."""

MEASURED_ROWS = (1, 16, 256)
"""The M at which each class is measured."""

BUDGET_S = 0.01
"""The time in which one implementation is measured, per shape and class, in seconds."""


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight in the layouts of the chosen implementations. Only `linear_i8` reads it.

    `runs[i]` is the implementation for up to MAX_ROWS[i] rows, and `names[i]` its name.
    """

    num_in: int
    num_out: int
    names: tuple[str, ...]
    runs: tuple[RowFunction, ...]


def pack(q_NK: Tensor, scale_N: Tensor, bias_N: Tensor | None = None, *, once: bool = False) -> PackedLinear:
    """Prepares the weight `q_NK * scale_N[:, None]` (int8, float) and `bias_N` (float or None) for `linear_i8`.

    `once` is for a weight that is used for one call, in training: it chooses an implementation that does not repack the
    weight, since this would take longer than the call. Raises ValueError for another dtype or shape.
    """
    _check_weight(q_NK, scale_N, bias_N)
    weight = Int8Weight.of(q_NK, scale_N, bias_N)
    num_out, num_in = q_NK.shape
    impls = _plan_once() if once else _plan(num_out, num_in)
    packed = {impl.name: impl.run(weight) for impl in impls}
    names = tuple(impl.name for impl in impls)
    return PackedLinear(num_in, num_out, names, tuple(packed[name] for name in names))


def linear_i8(x_MK: Tensor, packed: PackedLinear) -> Tensor:
    """Returns y_MN float32 for float32 rows x_MK, M >= 0. Raises ValueError for another dtype or width.

    The values must be finite. This is not checked, because a check would read them once more.
    """
    if x_MK.dim() != 2 or x_MK.shape[1] != packed.num_in or x_MK.dtype != torch.float32:
        raise ValueError(
            f"x_MK is {x_MK.dtype} {tuple(x_MK.shape)}; expected float32 rows of {packed.num_in} columns [M, K]"
        )
    num_rows = x_MK.shape[0]
    if num_rows == 0:
        return x_MK.new_empty(0, packed.num_out)
    small, middle, large = packed.runs
    if num_rows <= MAX_ROWS[0]:
        return small(x_MK)
    if num_rows <= MAX_ROWS[1]:
        return middle(x_MK)
    return large(x_MK)


@functools.cache
def _plan(num_out: int, num_in: int) -> tuple[Impl[Pack], ...]:
    """Returns the implementation for each class of M, for weights [num_out, num_in]."""
    first = choose("linear_i8", IMPLS, force=forced())
    candidates = [impl for impl in INT8 if not impl.why_unavailable()]
    if forced() is None and first in INT8 and len(candidates) > 1:
        return _fastest(candidates, num_out, num_in)
    return (first,) * len(MAX_ROWS)


@functools.cache
def _plan_once() -> tuple[Impl[Pack], ...]:
    """Returns the implementation for weights that are used once: `int_mm`, if it can run, repacks no weight."""
    return (choose("linear_i8", (INT_MM, *IMPLS), force=forced()),) * len(MAX_ROWS)


def _fastest(candidates: list[Impl[Pack]], num_out: int, num_in: int) -> tuple[Impl[Pack], ...]:
    """Measures all candidates, and returns the fastest one for each class of M."""
    generator = torch.Generator().manual_seed(0)
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=generator)
    weight = Int8Weight.of(q_NK, torch.ones(num_out), None)
    runs = [impl.run(weight) for impl in candidates]
    fastest: list[Impl[Pack]] = []
    for num_rows in MEASURED_ROWS:
        x_MK = torch.randn(num_rows, num_in, generator=generator)
        seconds = [best_seconds(functools.partial(run, x_MK), budget_s=BUDGET_S) for run in runs]
        fastest.append(candidates[seconds.index(min(seconds))])
    return tuple(fastest)


def _check_weight(q_NK: Tensor, scale_N: Tensor, bias_N: Tensor | None) -> None:
    if q_NK.dtype != torch.int8 or q_NK.dim() != 2 or 0 in q_NK.shape:
        raise ValueError(f"q_NK is {q_NK.dtype} {tuple(q_NK.shape)}; expected int8 [N, K] with N, K > 0")
    expected = (q_NK.shape[0],)
    for name, value in (("scale_N", scale_N), ("bias_N", bias_N)):
        if value is not None and (not value.is_floating_point() or tuple(value.shape) != expected):
            raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}; expected floats {list(expected)}")
