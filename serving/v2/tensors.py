"""Tensors of the Open Inference Protocol, and the bytes of their values (binary tensor data, and raw contents in gRPC).

A BYTES tensor is a 4-byte length, little-endian, before each element; other tensors are their values in a row.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from serving.http.problems import Problem, RequestRefused

BYTES: Final = "BYTES"
FORMATS: Final = {"FP32": "f", "INT64": "q", "BOOL": "?"}
"""The format of `struct` of each datatype of ours but BYTES."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """`values` are those of all elements in row-major order: texts, numbers or truth values, as `datatype` says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]


def wrong_tensor(message: str) -> RequestRefused:
    """Returns what a request with a wrong tensor is refused with, which the protocol demands to be a 400."""
    return RequestRefused(Problem(status=HTTPStatus.BAD_REQUEST, code="wrong_tensor", message=message))


def pack(tensor: Tensor) -> bytes:
    """Returns the bytes of its values.

    >>> pack(Tensor("label", "BYTES", (2,), ["a", ""]))
    b'\\x01\\x00\\x00\\x00a\\x00\\x00\\x00\\x00'
    """
    if tensor.datatype != BYTES:
        return struct.pack(f"<{len(tensor.values)}{FORMATS[tensor.datatype]}", *tensor.values)
    parts: list[bytes] = []
    for value in tensor.values:
        data = value.encode()
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def unpack_texts(name: str, data: bytes, *, at_most: int) -> list[str]:
    """Returns the elements of a BYTES tensor, which are UTF-8. Raises RequestRefused where they are not, or too many.

    >>> unpack_texts("text", b"\\x01\\x00\\x00\\x00a\\x00\\x00\\x00\\x00", at_most=2)
    ['a', '']
    """
    texts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + _LENGTH.size
        if end > len(data) or len(texts) == at_most:
            raise wrong_tensor(f"the bytes of `{name}` are more than its shape says, or cut off")
        at = end + _LENGTH.unpack_from(data, at)[0]
        if at > len(data):
            raise wrong_tensor(f"an element of `{name}` is longer than its bytes")
        texts.append(data[end:at])
    return decoded(name, texts)


def decoded(name: str, elements: Sequence[bytes]) -> list[str]:
    """Returns the texts of these elements. Raises RequestRefused where one is not UTF-8."""
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise wrong_tensor(f"an element of `{name}` is not UTF-8") from None


def num_elements(name: str, shape: Sequence[int], *, at_most: int) -> int:
    """Returns the number of events that a tensor of this shape is of: [n], or [n, 1]. Raises RequestRefused."""
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise wrong_tensor(f"`{name}` has the shape {list(shape)[:9]}; give [n] or [n, 1]")
    if not 0 < shape[0] <= at_most:
        raise wrong_tensor(f"`{name}` has {shape[0]} elements; give 1 to {at_most}")
    return shape[0]
