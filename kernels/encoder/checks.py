"""Checks of the tensors from which an encoder is made: the kernels check nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the tensor is dense and has this dtype and shape."""
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected dense {dtype} {list(shape)}")


def check_packed(name: str, packed: Tensor, shape: tuple[int, int], *, bits: Sequence[int] = (8, 4)) -> None:
    """Raises ValueError unless the header of the packed weight says this shape, and one of these numbers of bits."""
    header = header_of(packed)
    if header not in [[each, *shape] for each in bits]:
        raise ValueError(
            f"{name} is packed as {header}; "
            f"expected {' or '.join(map(str, bits))} bits, {shape[0]} outputs, {shape[1]} inputs"
        )


def header_of(packed: Tensor) -> list[int]:
    """Returns bits, outputs and inputs of a packed weight; nothing of what is none."""
    is_packed = packed.dtype == torch.uint8 and len(packed) >= 12
    return packed[:12].view(torch.int32).tolist() if is_packed else []
