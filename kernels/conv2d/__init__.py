"""The 3 x 3 convolution of images, y = w * x + bias with stride 1 and a border of zeros, in float32 and in INT8.

`reference.py` defines it, `native.py` calls our own C, and `training.py` makes a module of it. This file checks the
arguments and chooses the implementation by a table that is measured on this machine: for each number of channels, size
of images and number of threads, once per process, within `BUDGET_S` for each candidate.

- float32, for training: Winograd's F(4x4,3x3) and F(2x2,3x3) in our C, and torch's direct convolution (oneDNN). Their
  results differ by rounding: at 256 channels, F(4x4,3x3) is off by up to 1.2e-5 of the largest value. A measured choice
  may differ between runs; LIFELONG_KERNELS fixes the family.
- INT8, for serving: directly, or by F(2x2,3x3) in exact integers, which has fewer multiplications at half the rate. All
  give the same bits, so the choice cannot change a result.

Callers use `pack` or `pack_i8` once for each filter, and `conv2d`.

Shape suffixes: B images, C input channels, O output channels, H x W pixels.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from kernels import native as own
from kernels.conv2d import native, reference
from kernels.conv2d.reference import MAX_CHANNELS, TAPS
from kernels.dispatch import Impl, best_seconds, choose, forced
from kernels.linear_i8.library import EXACT_COLUMNS
from kernels.linear_i8.reference import Int8Weight

__all__ = ["IMPLS", "INT8_IMPLS", "PackedConv2d", "conv2d", "pack", "pack_i8"]

ImageFunction: TypeAlias = Callable[[Tensor], Tensor]
Pack: TypeAlias = Callable[[Tensor, Tensor | None, bool], ImageFunction]
"""w_OC33, bias, and whether the convolution is the adjoint, which maps the gradient of y to the gradient of x."""
PackI8: TypeAlias = Callable[[Tensor, Int8Weight], ImageFunction]
P = TypeVar("P", Pack, PackI8)

MEASURED_IMAGES = 8
"""The images of a batch with which the candidates are measured."""

BUDGET_S = 0.02
"""The time in which one implementation is measured, in seconds."""


@dataclass(frozen=True, slots=True)
class PackedConv2d:
    """Filters in the layout of the chosen implementation, whose name is `name`. Only `conv2d` reads it."""

    num_in: int
    num_out: int
    name: str
    run: ImageFunction


def _why_not(num_in: int) -> list[str]:
    return own.why_unavailable()


def _why_not_exact(num_in: int) -> list[str]:
    too_many = [f"{num_in} input channels, more than {MAX_CHANNELS}: the sums could exceed 32 bits"]
    return own.why_unavailable() + (too_many if num_in > MAX_CHANNELS else [])


def _winograd(tile: int) -> Impl[Pack]:
    def pack(w_OC33: Tensor, bias: Tensor | None, adjoint: bool) -> ImageFunction:
        packed = native.pack_winograd(w_OC33, bias, tile, adjoint=adjoint)
        return functools.partial(native.winograd, packed=packed, num_out=w_OC33.shape[int(adjoint)], tile=tile)

    return Impl(f"native/f{tile}", _why_not, pack)


def _direct(w_OC33: Tensor, bias: Tensor | None, adjoint: bool) -> ImageFunction:
    convolve = functional.conv_transpose2d if adjoint else functional.conv2d
    return functools.partial(convolve, weight=w_OC33, bias=bias, padding=1)


def _reference(w_OC33: Tensor, bias: Tensor | None, adjoint: bool) -> ImageFunction:
    w = reference.adjoint(w_OC33) if adjoint else w_OC33
    return functools.partial(reference.conv2d, w_OC33=w, bias_O=bias)


def _direct_i8(q_OC33: Tensor, weight: Int8Weight) -> ImageFunction:
    return functools.partial(native.conv2d_i8, packed=native.pack_i8(q_OC33, weight), num_out=len(q_OC33))


def _exact_i8(q_OC33: Tensor, weight: Int8Weight) -> ImageFunction:
    return functools.partial(native.exact, packed=native.pack_exact(q_OC33, weight), num_out=len(q_OC33))


def _float_sums(q_BCIJ: Tensor, q_OC33: Tensor) -> Tensor:
    """Returns acc_BOHW int32 by float32 convolutions of so few channels that every partial sum is an exact integer."""
    few = EXACT_COLUMNS // (TAPS * TAPS)
    acc_BOHW = torch.zeros((), dtype=torch.int32)
    for q, w in zip(torch.split(q_BCIJ, few, dim=1), torch.split(q_OC33, few, dim=1), strict=True):
        acc_BOHW = acc_BOHW + functional.conv2d(q.float(), w.float()).int()
    return acc_BOHW


def _library_i8(q_OC33: Tensor, weight: Int8Weight) -> ImageFunction:
    return functools.partial(reference.conv2d_i8, q_OC33=q_OC33, weight=weight, sums=_float_sums)


def _reference_i8(q_OC33: Tensor, weight: Int8Weight) -> ImageFunction:
    return functools.partial(reference.conv2d_i8, q_OC33=q_OC33, weight=weight)


MEASURED: tuple[Impl[Pack], ...] = (_winograd(4), _winograd(2), Impl("library/direct", lambda *_: [], _direct))
"""The candidates for measuring in float32. The first is preferred if nothing is measured."""

IMPLS: tuple[Impl[Pack], ...] = (*MEASURED, Impl("reference", lambda *_: [], _reference))

MEASURED_I8: tuple[Impl[PackI8], ...] = (
    Impl("native/direct", _why_not, _direct_i8),
    Impl("native/exact_f2", _why_not_exact, _exact_i8),
)
"""The candidates for measuring in INT8."""

INT8_IMPLS: tuple[Impl[PackI8], ...] = (
    *MEASURED_I8,
    Impl("library/float", lambda *_: [], _library_i8),
    Impl("reference", lambda *_: [], _reference_i8),
)


def pack(w_OC33: Tensor, bias_O: Tensor | None = None, *, size: tuple[int, int], adjoint: bool = False) -> PackedConv2d:
    """Prepares float32 filters and their bias (or None) for `conv2d`, for images of about H x W = `size` pixels.

    The size decides which implementation is the fastest; `conv2d` takes images of every size. With `adjoint` the
    convolution maps the gradient of y_BOHW to the gradient of x_BCHW, and a bias has C values. Raises ValueError for
    another dtype or shape.
    """
    _check_filters("w_OC33", w_OC33, torch.float32)
    num_out, num_in = w_OC33.shape[1::-1] if adjoint else w_OC33.shape[:2]
    _check_floats("bias_O", bias_O, num_out, torch.float32)
    _check_size(size)
    impl = _plan(num_out, num_in, size, adjoint, torch.get_num_threads())
    return PackedConv2d(num_in, num_out, impl.name, impl.run(w_OC33, bias_O, adjoint))


def pack_i8(q_OC33: Tensor, scale_O: Tensor, bias_O: Tensor | None = None, *, size: tuple[int, int]) -> PackedConv2d:
    """Prepares the filters `q_OC33 * scale_O` (int8, float) and `bias_O` (float or None) for `conv2d`.

    The convolution quantizes each image to 8 bits: see `reference.py`. `size` has the meaning of `pack`'s. Raises
    ValueError for another dtype or shape.
    """
    _check_filters("q_OC33", q_OC33, torch.int8)
    num_out, num_in = q_OC33.shape[:2]
    _check_floats("scale_O", scale_O, num_out)
    _check_floats("bias_O", bias_O, num_out)
    _check_size(size)
    impl = _plan_i8(num_out, num_in, size, torch.get_num_threads())
    weight = Int8Weight.of(q_OC33.flatten(1), scale_O, bias_O)
    return PackedConv2d(num_in, num_out, impl.name, impl.run(q_OC33, weight))


def conv2d(x_BCHW: Tensor, packed: PackedConv2d) -> Tensor:
    """Returns y_BOHW float32 for float32 images x_BCHW, B >= 0, of at least one pixel. Raises ValueError otherwise.

    Images in torch's channels_last are not copied. The values must be finite, which is not checked.
    """
    if x_BCHW.dim() != 4 or x_BCHW.shape[1] != packed.num_in or x_BCHW.dtype != torch.float32 or 0 in x_BCHW.shape[2:]:
        raise ValueError(
            f"x_BCHW is {x_BCHW.dtype} {tuple(x_BCHW.shape)}; "
            f"expected float32 images of {packed.num_in} channels [B, C, H, W] with H, W > 0"
        )
    num_images, _, height, width = x_BCHW.shape
    if not num_images:
        return x_BCHW.new_empty(0, packed.num_out, height, width)
    return packed.run(x_BCHW)


@functools.cache
def _plan(num_out: int, num_in: int, size: tuple[int, int], adjoint: bool, threads: int) -> Impl[Pack]:
    """Returns the implementation in float32. The number of threads is what torch uses, so it decides the times."""

    def make(impl: Impl[Pack]) -> ImageFunction:
        w_OC33 = torch.ones((num_in, num_out, TAPS, TAPS) if adjoint else (num_out, num_in, TAPS, TAPS))
        return impl.run(w_OC33, None, adjoint)

    return _chosen("conv2d", IMPLS, MEASURED, make, num_in, size)


@functools.cache
def _plan_i8(num_out: int, num_in: int, size: tuple[int, int], threads: int) -> Impl[PackI8]:
    """Returns the implementation in INT8."""

    def make(impl: Impl[PackI8]) -> ImageFunction:
        q_OC33 = torch.ones(num_out, num_in, TAPS, TAPS, dtype=torch.int8)
        return impl.run(q_OC33, Int8Weight.of(q_OC33.flatten(1), torch.ones(num_out), None))

    return _chosen("conv2d_i8", INT8_IMPLS, MEASURED_I8, make, num_in, size)


def _chosen(
    op: str,
    impls: Sequence[Impl[P]],
    measured: Sequence[Impl[P]],
    make: Callable[[Impl[P]], ImageFunction],
    num_in: int,
    size: tuple[int, int],
) -> Impl[P]:
    """Returns the fastest of the `measured` implementations that can run, or the first of `impls` if none can."""
    first = choose(op, impls, num_in, force=forced())
    candidates = [impl for impl in measured if impl.belongs_to(forced()) and not impl.why_unavailable(num_in)]
    if len(candidates) < 2:
        return first
    # No random numbers: the caller's generator must not depend on what was measured before. The values change no time.
    x_BCHW = torch.ones(MEASURED_IMAGES, num_in, *size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = [best_seconds(functools.partial(make(impl), x_BCHW), budget_s=BUDGET_S) for impl in candidates]
    return candidates[seconds.index(min(seconds))]


def _check_filters(name: str, w_OC33: Tensor, dtype: torch.dtype) -> None:
    if w_OC33.dtype != dtype or w_OC33.dim() != 4 or w_OC33.shape[2:] != (TAPS, TAPS) or 0 in w_OC33.shape:
        raise ValueError(f"{name} is {w_OC33.dtype} {tuple(w_OC33.shape)}; expected {dtype} [O, C, 3, 3] with O, C > 0")


def _check_floats(name: str, value: Tensor | None, length: int, dtype: torch.dtype | None = None) -> None:
    if value is None:
        return
    is_float = value.is_floating_point() if dtype is None else value.dtype == dtype
    if not is_float or tuple(value.shape) != (length,):
        raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}; expected {dtype or 'floats'} [{length}]")


def _check_size(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size is {size}; expected (height, width), both at least 1")
