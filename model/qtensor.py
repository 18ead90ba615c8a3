"""A stored weight (QTensor): the form in which a quantized weight is hashed, sent and stored, and its bytes.

    float weight --model/quantize.py--> QTensor --to_blob--> safetensors bytes --from_blob--> QTensor

The form does not depend on the memory layout of any kernel; a replica packs the weights for its kernels. Equal tensors
give equal bytes, so an unchanged weight has the same digest and is not sent again. Before `from_blob` returns a weight,
it checks names, dtypes, shapes, sizes, finiteness and ranges, and that `ksum` is the sum of the integers.

Rejected:

- Pickle: it runs code.
- One file for all weights: with each change of the head, the encoder would be sent, too.

Shape suffixes: N outputs (rows), K inputs, J = K / 2 bytes, G = K / 64 groups.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from kernels.linear_i4.reference import GROUP, MAX_MULTIPLIER, high_plane
from model.errors import BadBlob, NonFinite, WrongShape
from model.nested import MAX_Q8, join
from model.sparse import BCSR, fit_sparse, join_blocks, sparse_shape, unpack_mask

N8G64 = "n8g64"
W4G64 = "w4g64"
W8C = "w8c"
FP32 = "fp32"
VECTORS = "vectors"
NUMBERS = "numbers"

MAX_BLOB_BYTES = 1 << 30
"""The largest blob of one weight, in bytes."""

DTYPES: dict[str, torch.dtype] = {
    "I8": torch.int8,
    "U8": torch.uint8,
    "I32": torch.int32,
    "F16": torch.float16,
    "F32": torch.float32,
}
"""The dtypes that a part may have, by their names in safetensors."""

PART_DTYPES: dict[str, dict[str, str]] = {
    N8G64: {"hi": "U8", "lo": "U8", "m": "U8", "scale": "F16", "ksum": "I32", "bias": "F32", "in_scale": "F32"},
    W4G64: {"hi": "U8", "m": "U8", "scale": "F16", "ksum": "I32", "bias": "F32", "in_scale": "F32"},
    W8C: {"q": "I8", "scale": "F16", "ksum": "I32", "bias": "F32"},
    FP32: {"value": "F32"},
    BCSR: {"blocks": "I8", "mask": "U8", "scale": "F16", "ksum": "I32", "bias": "F32", "in_scale": "F32"},
    VECTORS: {
        **{f"{part}.bias": "F32" for part in ("qkv", "out", "up", "down", "project")},
        **{f"{part}.in_scale": "F32" for part in ("qkv", "up", "project")},
        **{norm: "F32" for norm in ("norm1", "norm2", "out_norm", "down_norm", "q_norm", "k_norm", "final_norm")},
    },
    NUMBERS: {"names": "U8", "mean": "F32", "scale": "F32", "count": "I32"},
}
"""Scheme -> the names of a weight's parts, and their dtypes."""

GROUPED = (N8G64, W4G64)
"""The schemes with an INT4 plane of nibbles, and a multiplier for every group of 64 inputs."""

OPTIONAL = {"bias", "in_scale", "qkv.in_scale", "up.in_scale", "project.bias", "project.in_scale"} | {
    *("norm1", "out_norm", "down_norm", "q_norm", "k_norm", "final_norm")
}
"""The parts that may be absent. `model.weights` checks which vectors a layer needs."""


class PartDescription(Protocol):
    """The description of one part in a manifest, such as a `wire.records.TensorPart`."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class TensorDescription(Protocol):
    """The description of one weight in a manifest, such as a `wire.records.TensorEntry`."""

    @property
    def name(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def parts(self) -> Sequence[PartDescription]: ...


@dataclass(frozen=True, slots=True)
class PartSpec:
    """The name, safetensors dtype and shape of one part."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class QTensor:
    """A stored weight: its name and its parts, which must not be changed. The scheme decides which parts there are.

    - `n8g64`, INT8 with INT4 inside: the planes hi and lo U8 [N, K / 2] and the multipliers m U8 [N, K / 64] of q8
      (`model.nested`), scale F16 [N], and ksum I32 [N], the sum of q8 over K. It has bias F32 [N] if the layer has a
      bias, and in_scale F32 [K] if inputs are multiplied by in_scale before they are rounded.
    - `w4g64`, INT4 alone: the same parts without lo, and ksum is the sum of m * hi.
    - `w8c`, INT8: q I8 [N, K] in place of hi, lo and m.
    - `bcsr16x4.w8`, INT8 in which most blocks are zero (`model.sparse`): the other blocks I8 [B, 16, 4], and mask U8
      [N / 16, K / 32], a bit for each block, in place of hi, lo and m.
    - `fp32`: value F32 of any shape.
    - `vectors`, the vectors of a layer, F32: norms such as norm1 and norm2 [2, D], gain over bias; a bias for each
      matrix; and in_scale for each matrix that the layer owns and whose inputs are scaled. In a manifest, bias and
      in_scale of an encoder's matrix are among these vectors, and not parts of the matrix.
    - `numbers`: the measured mean, scale and count of numeric features, by name.

    `digest` is the digest of the bytes; "" if the weight was not read from bytes.
    """

    name: str
    scheme: str
    parts: Mapping[str, Tensor]
    digest: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight: [N, K] for a matrix, and the number of values for `vectors` and `numbers`."""
        if self.scheme in GROUPED:
            num_rows, num_bytes = self.parts["hi"].shape
            return num_rows, 2 * num_bytes
        if self.scheme == BCSR:
            return sparse_shape(tuple(self.parts["mask"].shape))
        if self.scheme in (VECTORS, NUMBERS):
            return (sum(part.numel() for part in self.parts.values()),)
        return tuple(self.parts["q" if self.scheme == W8C else "value"].shape)

    @property
    def bias(self) -> Tensor | None:
        return self.parts.get("bias")

    @property
    def in_scale(self) -> Tensor | None:
        return self.parts.get("in_scale")

    @property
    def specs(self) -> tuple[PartSpec, ...]:
        """The parts as a manifest lists them, sorted by name."""
        dtypes = PART_DTYPES[self.scheme]
        return tuple(PartSpec(name, dtypes[name], tuple(part.shape)) for name, part in sorted(self.parts.items()))

    @property
    def q_NK(self) -> Tensor:
        """The integers of a quantized weight, int8. Nibbles and blocks are unpacked at every call."""
        if self.scheme == N8G64:
            return join(self.parts["hi"], self.parts["lo"], self.parts["m"])
        if self.scheme == W4G64:
            return high_plane(self.parts["hi"], self.parts["m"])
        if self.scheme == BCSR:
            return join_blocks(self.parts["blocks"], self.parts["mask"])
        return self.parts["q"]

    def dequantize(self) -> Tensor:
        """Returns the weight as float32 [N, K], without the bias. It is for unscaled inputs: `in_scale` is included."""
        if self.scheme == FP32:
            return self.parts["value"]
        w_NK = self.q_NK.float() * self.parts["scale"].float()[:, None]
        return w_NK if self.in_scale is None else w_NK * self.in_scale

    def to_blob(self) -> bytes:
        """Returns the weight as safetensors bytes. Equal tensors give equal bytes."""
        return safetensors.torch.save({name: part.contiguous() for name, part in self.parts.items()})


def from_blob(entry: TensorDescription, blob: bytes | bytearray) -> QTensor:
    """Reads a stored weight from its bytes, and checks that it is what `entry` describes.

    Raises WrongShape for another scheme, or other names, dtypes or shapes; BadBlob for bytes that cannot be parsed;
    NonFinite for values that are not finite.
    """
    _check_entry(entry)
    if len(blob) != entry.num_bytes:
        raise BadBlob(f"{entry.name}: {len(blob)} bytes; expected {entry.num_bytes}")
    try:
        parts = safetensors.torch.load(bytes(blob))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        # The header is truncated, has absurd sizes, or names an unknown dtype.
        raise BadBlob(f"{entry.name}: not safetensors: {error}") from error
    _check_parts(entry, parts)
    check_finite(entry.name, parts)
    tensor = QTensor(entry.name, entry.scheme, parts, entry.digest)
    if entry.scheme not in (FP32, VECTORS, NUMBERS):
        _check_integers(tensor)
    return tensor


def _check_entry(entry: TensorDescription) -> None:
    dtypes = PART_DTYPES.get(entry.scheme)
    if dtypes is None:
        raise WrongShape(f"{entry.name}: scheme {entry.scheme!r}; expected one of {', '.join(PART_DTYPES)}")
    found = {part.name: part.dtype for part in entry.parts}
    required = dtypes.keys() - OPTIONAL
    if len(found) != len(entry.parts) or not required <= found.keys() or not found.items() <= dtypes.items():
        raise WrongShape(f"{entry.name}: parts {found}; expected {dtypes} (bias and in_scale may be absent)")
    num_bytes = sum(math.prod(part.shape) * DTYPES[part.dtype].itemsize for part in entry.parts)
    smallest_size = min(min(part.shape, default=1) for part in entry.parts)
    if smallest_size < 1 or num_bytes > entry.num_bytes:
        raise WrongShape(f"{entry.name}: {entry.num_bytes} bytes cannot hold {[part.shape for part in entry.parts]}")
    if entry.num_bytes > MAX_BLOB_BYTES:
        raise BadBlob(f"{entry.name}: {entry.num_bytes} bytes; expected at most {MAX_BLOB_BYTES}")


def _check_parts(entry: TensorDescription, parts: Mapping[str, Tensor]) -> None:
    expected = {part.name: (DTYPES[part.dtype], tuple(part.shape)) for part in entry.parts}
    found = {name: (part.dtype, tuple(part.shape)) for name, part in parts.items()}
    if found != expected:
        raise WrongShape(f"{entry.name}: the bytes hold {found}; expected {expected}")
    shapes = {name: shape for name, (_, shape) in expected.items()}
    if entry.scheme == W8C and not _fit_by_row(shapes, "q"):
        raise WrongShape(f"{entry.name}: {shapes}; expected q [N, K] and the other parts [N]")
    if entry.scheme == BCSR and not fit_sparse(shapes):
        raise WrongShape(
            f"{entry.name}: {shapes}; expected blocks [B, 16, 4], mask [N / 16, K / 32], in_scale [K], the other"
            " parts [N]"
        )
    if entry.scheme in GROUPED and not _fit_by_group(shapes):
        planes = "hi and lo" if entry.scheme == N8G64 else "hi"
        raise WrongShape(
            f"{entry.name}: {shapes}; expected {planes} [N, K / 2], m [N, K / {GROUP}], in_scale [K], the other"
            " parts [N]"
        )


def _fit_by_group(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Returns whether the shapes of the parts of a grouped (INT4) weight fit together."""
    if len(shapes["hi"]) != 2 or shapes.get("lo", shapes["hi"]) != shapes["hi"]:
        return False
    num_in = 2 * shapes["hi"][1]
    if num_in % GROUP:
        return False
    if shapes["m"] != (*shapes["hi"][:1], num_in // GROUP):
        return False
    by_row = dict(shapes)
    in_scale = by_row.pop("in_scale", (num_in,))
    planes = [name for name in ("hi", "lo") if name in shapes]
    return in_scale == (num_in,) and _fit_by_row(by_row, *planes, "m")


def _fit_by_row(shapes: Mapping[str, tuple[int, ...]], *matrices: str) -> bool:
    """Returns whether the parts `matrices` are matrices, and every other part has a value for each row of the first."""
    rows = shapes[matrices[0]][:1]
    are_matrices = all(len(shapes[name]) == 2 for name in matrices)
    return are_matrices and all(shape == rows for name, shape in shapes.items() if name not in matrices)


def _check_integers(tensor: QTensor) -> None:
    parts = tensor.parts
    if tensor.scheme in GROUPED:
        lowest, highest = parts["m"].aminmax()
        if lowest < 1 or highest > MAX_MULTIPLIER:
            raise BadBlob(f"{tensor.name}: m from {lowest} to {highest}; expected 1 to {MAX_MULTIPLIER}")
    if tensor.scheme == BCSR and int(unpack_mask(parts["mask"]).sum()) != len(parts["blocks"]):
        raise BadBlob(f"{tensor.name}: {len(parts['blocks'])} blocks; the mask has another number")
    q_NK = tensor.q_NK
    if tensor.scheme == N8G64 and (q_NK.min() < -MAX_Q8 or q_NK.max() > MAX_Q8):
        raise BadBlob(f"{tensor.name}: the planes give values beyond {MAX_Q8}")
    if not torch.equal(q_NK.sum(dim=1, dtype=torch.int32), parts["ksum"]):
        raise BadBlob(f"{tensor.name}: ksum is not the sum of q")


def check_finite(name: str, parts: Mapping[str, Tensor]) -> None:
    """Raises NonFinite for a value that is not finite, or a scale that is not positive."""
    for part_name, part in parts.items():
        if part.is_floating_point() and not torch.isfinite(part).all():
            raise NonFinite(f"{name}.{part_name} has a value that is not finite")
    for part_name, part in parts.items():
        if part_name.endswith("scale") and not (part > 0).all():
            raise NonFinite(f"{name}.{part_name} has a value that is not positive")
