"""A stored weight: its canonical form, which is hashed, shipped and kept, and the bytes of it.

    float weight --quantize_w8c / plain--> QTensor --to_blob--> safetensors bytes --from_blob--> QTensor, packed

The form does not depend on any kernel's layout; packing happens on the replica. Equal tensors give equal bytes, so a
weight that did not change has the same digest and is not sent again. Reading checks everything before it believes
anything: names, dtypes, shapes, sizes, finiteness, and that `ksum` is the sum it says.

Rejected: pickle (runs code) and one file for all weights (a change of the head would ship the encoder).

Shape suffixes: N outputs (rows), K inputs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from model.errors import BadBlob, NonFinite, WrongShape

W8C = "w8c"
FP32 = "fp32"

MAX_BLOB_BYTES = 1 << 30
"""No single weight is larger, in bytes."""

DTYPES: dict[str, torch.dtype] = {
    "I8": torch.int8,
    "I32": torch.int32,
    "F16": torch.float16,
    "F32": torch.float32,
}
"""Dtypes a part may have, by their safetensors names."""

PART_DTYPES: dict[str, dict[str, str]] = {
    W8C: {"q": "I8", "scale": "F16", "ksum": "I32", "bias": "F32"},
    FP32: {"value": "F32"},
}
"""Scheme -> its parts and their dtypes; only `bias` may be absent."""

_LEVELS = 127


class PartDescription(Protocol):
    """What a manifest says of one part (`wire.records.TensorPart` fits)."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class TensorDescription(Protocol):
    """What a manifest says of one weight (`wire.records.TensorEntry` fits)."""

    @property
    def name(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def parts(self) -> Sequence[PartDescription]: ...


@dataclass(frozen=True, slots=True)
class PartSpec:
    """Name, safetensors dtype and shape of one part."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class QTensor:
    """A named weight and its parts.

    `w8c`: q I8 [N, K], scale F16 [N], ksum I32 [N] (sum of q over K), and bias F32 [N] where the layer has one.
    `fp32`: value F32 of any shape. The parts are not to be written to.
    """

    name: str
    scheme: str
    parts: Mapping[str, Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.parts["q" if self.scheme == W8C else "value"].shape)

    @property
    def bias(self) -> Tensor | None:
        return self.parts.get("bias")

    @property
    def specs(self) -> tuple[PartSpec, ...]:
        """The parts as a manifest lists them, sorted by name."""
        dtypes = PART_DTYPES[self.scheme]
        return tuple(PartSpec(name, dtypes[name], tuple(part.shape)) for name, part in sorted(self.parts.items()))

    def dequantize(self) -> Tensor:
        """The weight as float32, without the bias."""
        if self.scheme == FP32:
            return self.parts["value"]
        return self.parts["q"].float() * self.parts["scale"].float()[:, None]

    def to_blob(self) -> bytes:
        """Safetensors bytes; equal tensors give equal bytes."""
        return safetensors.torch.save({name: part.contiguous() for name, part in self.parts.items()})


def quantize_w8c(name: str, w_NK: Tensor, bias_N: Tensor | None = None) -> QTensor:
    """INT8 per row: |w - scale * q| <= scale / 2, with the scale rounded up to float16 so that nothing is clamped.

    Raises WrongShape for another shape, NonFinite for a NaN, an infinity, or a row beyond float16 scales.
    """
    if w_NK.dim() != 2 or 0 in w_NK.shape or (bias_N is not None and bias_N.shape != w_NK.shape[:1]):
        bias = None if bias_N is None else tuple(bias_N.shape)
        raise WrongShape(f"{name}: weight {tuple(w_NK.shape)} and bias {bias}; expected [N, K] and [N]")
    w_NK = w_NK.detach().float()
    scale_N = _half_rounded_up(w_NK.abs().amax(dim=1) / _LEVELS)
    q_NK = torch.round(w_NK / scale_N.float()[:, None]).clamp_(-_LEVELS, _LEVELS).to(torch.int8)
    parts = {"q": q_NK, "scale": scale_N, "ksum": q_NK.sum(dim=1, dtype=torch.int32)}
    if bias_N is not None:
        parts["bias"] = bias_N.detach().float().clone()
    _check_finite(name, parts)
    return QTensor(name, W8C, parts)


def plain(name: str, value: Tensor) -> QTensor:
    """A weight that stays float32 (norms). Raises NonFinite."""
    parts = {"value": value.detach().float().clone()}
    _check_finite(name, parts)
    return QTensor(name, FP32, parts)


def from_blob(entry: TensorDescription, blob: bytes | bytearray) -> QTensor:
    """The weight that `entry` describes, from its bytes, verified.

    Raises WrongShape (scheme, names, dtypes or shapes), BadBlob (bytes that are no such tensor) or NonFinite.
    """
    _check_entry(entry)
    if len(blob) != entry.num_bytes:
        raise BadBlob(f"{entry.name}: {len(blob)} bytes; expected {entry.num_bytes}")
    try:
        parts = safetensors.torch.load(bytes(blob))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:  # a header that is cut, absurd or unknown
        raise BadBlob(f"{entry.name}: not safetensors: {error}") from error
    _check_parts(entry, parts)
    _check_finite(entry.name, parts)
    if entry.scheme == W8C and not torch.equal(parts["q"].sum(dim=1, dtype=torch.int32), parts["ksum"]):
        raise BadBlob(f"{entry.name}: ksum is not the sum of q")
    return QTensor(entry.name, entry.scheme, parts)


def _half_rounded_up(scale_N: Tensor) -> Tensor:
    """The smallest positive float16 not below `scale_N`; infinite where there is none."""
    half_N = scale_N.to(torch.float16)
    next_N = (half_N.view(torch.int16) + 1).view(torch.float16)  # the next larger, for values from 0 up
    return torch.where((half_N.float() < scale_N) | (half_N == 0), next_N, half_N)


def _check_entry(entry: TensorDescription) -> None:
    dtypes = PART_DTYPES.get(entry.scheme)
    if dtypes is None:
        raise WrongShape(f"{entry.name}: scheme {entry.scheme!r}; expected one of {', '.join(PART_DTYPES)}")
    found = {part.name: part.dtype for part in entry.parts}
    required = {name for name in dtypes if name != "bias"}
    if len(found) != len(entry.parts) or not required <= found.keys() or not found.items() <= dtypes.items():
        raise WrongShape(f"{entry.name}: parts {found}; expected {dtypes} (bias may be absent)")
    num_bytes = sum(math.prod(part.shape) * DTYPES[part.dtype].itemsize for part in entry.parts)
    if any(size < 1 for part in entry.parts for size in part.shape) or not num_bytes <= entry.num_bytes:
        raise WrongShape(f"{entry.name}: {entry.num_bytes} bytes cannot hold {[part.shape for part in entry.parts]}")
    if entry.num_bytes > MAX_BLOB_BYTES:
        raise BadBlob(f"{entry.name}: {entry.num_bytes} bytes; expected at most {MAX_BLOB_BYTES}")


def _check_parts(entry: TensorDescription, parts: Mapping[str, Tensor]) -> None:
    expected = {part.name: (DTYPES[part.dtype], tuple(part.shape)) for part in entry.parts}
    found = {name: (part.dtype, tuple(part.shape)) for name, part in parts.items()}
    if found != expected:
        raise WrongShape(f"{entry.name}: the bytes hold {found}; expected {expected}")
    if entry.scheme == W8C:
        rows = expected["q"][1][:1]
        if len(expected["q"][1]) != 2 or any(shape != rows for name, (_, shape) in expected.items() if name != "q"):
            raise WrongShape(f"{entry.name}: {expected}; expected q [N, K] and the other parts [N]")


def _check_finite(name: str, parts: Mapping[str, Tensor]) -> None:
    for part_name, part in parts.items():
        if part.is_floating_point() and not torch.isfinite(part).all():
            raise NonFinite(f"{name}.{part_name} has a value that is not finite")
    if "scale" in parts and not (parts["scale"] > 0).all():
        raise NonFinite(f"{name}.scale has a value that is not positive")
