"""Stored weights: their bytes, and the bytes and entries that reading refuses."""

import struct
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.linear_i4.reference import high_plane
from model.errors import BadBlob, ModelError, NonFinite, WrongShape
from model.qtensor import MAX_BLOB_BYTES, PartSpec, QTensor, from_blob
from model.quantize import plain, quantize_n8g64, quantize_w4g64, quantize_w8c


@dataclass(frozen=True)
class Entry:
    """The entry of a weight in a manifest."""

    name: str
    scheme: str
    digest: str
    num_bytes: int
    parts: tuple[PartSpec, ...]


def make_entry(tensor: QTensor, blob: bytes) -> Entry:
    return Entry(tensor.name, tensor.scheme, sha256(blob).hexdigest(), len(blob), tensor.specs)


def matrix(num_out: int, num_in: int, *, seed: int = 0) -> Tensor:
    return torch.randn(num_out, num_in, generator=torch.Generator().manual_seed(seed))


def int4_weight(stored: QTensor) -> Tensor:
    """Returns the INT4 weight inside an `n8g64` weight, without an `in_scale`."""
    return high_plane(stored.parts["hi"], stored.parts["m"]).float() * stored.parts["scale"].float()[:, None]


STORED = quantize_w8c("layers.0.up", matrix(3, 5), torch.tensor([1.0, 2.0, 3.0]))
BLOB = STORED.to_blob()
ENTRY = make_entry(STORED, BLOB)
NESTED = quantize_n8g64(
    "layers.0.up", matrix(3, 128), torch.tensor([1.0, 2.0, 3.0]), in_scale_K=torch.full((128,), 0.5)
)
INT4 = quantize_w4g64("layers.0.up", matrix(3, 128), torch.tensor([1.0, 2.0, 3.0]), in_scale_K=torch.full((128,), 0.5))


def are_equal(one: QTensor, other: QTensor) -> bool:
    if (one.name, one.scheme, one.specs) != (other.name, other.scheme, other.specs):
        return False
    return all(torch.equal(part, other.parts[name]) for name, part in one.parts.items())


@given(st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_blob_round_trip(num_out: int, num_in: int, with_bias: bool) -> None:
    bias_N = torch.zeros(num_out) if with_bias else None
    for stored in (
        quantize_w8c("w", matrix(num_out, num_in), bias_N),
        quantize_n8g64("w", matrix(num_out, 64 * num_in), bias_N),
        quantize_w4g64("w", matrix(num_out, 64 * num_in), bias_N),
    ):
        blob = stored.to_blob()
        assert are_equal(from_blob(make_entry(stored, blob), bytearray(blob)), stored)


def test_shapes_are_those_of_the_weight() -> None:
    assert (STORED.shape, NESTED.shape, INT4.shape) == ((3, 5), (3, 128), (3, 128))


def test_a_nested_weight_takes_little_more_than_a_byte() -> None:
    stored = quantize_n8g64("w", matrix(384, 1536))
    assert len(stored.to_blob()) < 1.03 * 384 * 1536


def test_int4_alone_takes_little_more_than_half_a_byte() -> None:
    stored = quantize_w4g64("w", matrix(384, 1536))
    assert len(stored.to_blob()) < 0.53 * 384 * 1536


def test_plain_round_trip() -> None:
    stored = plain("embed.norm", matrix(2, 7))
    assert stored.shape == (2, 7)
    assert stored.bias is None
    assert are_equal(from_blob(make_entry(stored, stored.to_blob()), stored.to_blob()), stored)


def test_equal_tensors_give_equal_bytes() -> None:
    again = quantize_w8c("another.name", matrix(3, 5), torch.tensor([1.0, 2.0, 3.0]))
    reordered = replace(again, parts=dict(sorted(again.parts.items(), reverse=True)))
    assert again.to_blob() == BLOB
    assert reordered.to_blob() == BLOB


@given(st.integers(0, len(BLOB) - 1))
def test_truncation_is_refused(length: int) -> None:
    for entry in (ENTRY, replace(ENTRY, num_bytes=length)):
        with pytest.raises(ModelError):
            from_blob(entry, BLOB[:length])


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
@settings(max_examples=300)
def test_a_changed_byte_never_makes_another_shape(position: int, change: int) -> None:
    for stored in (STORED, NESTED, INT4):
        changed = bytearray(stored.to_blob())
        changed[position] ^= change
        try:
            accepted = from_blob(make_entry(stored, bytes(changed)), changed)
        except ModelError:
            continue
        assert accepted.specs == stored.specs


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(ModelError):
        from_blob(replace(ENTRY, num_bytes=len(blob)), blob)


def test_an_absurd_header_is_refused() -> None:
    blob = struct.pack("<Q", 1 << 60) + BLOB[8:]
    with pytest.raises(BadBlob, match="not safetensors"):
        from_blob(ENTRY, blob)


def damaged(stored: QTensor = STORED, **changes: Tensor | None) -> bytes:
    parts = {name: part for name, part in ({**stored.parts, **changes}).items() if part is not None}
    return safetensors.torch.save(parts)


@pytest.mark.parametrize(
    ("blob", "error", "message"),
    [
        (damaged(scale=torch.full((3,), torch.nan).half()), NonFinite, "scale has a value that is not finite"),
        (damaged(bias=torch.full((3,), torch.inf)), NonFinite, "bias has a value that is not finite"),
        (damaged(scale=torch.tensor([1.0, 0.0, 1.0]).half()), NonFinite, "scale has a value that is not positive"),
        (damaged(ksum=torch.zeros(3, dtype=torch.int32)), BadBlob, "ksum is not the sum of q"),
        (damaged(bias=None), WrongShape, "the bytes hold"),
        (damaged(extra=torch.zeros(1)), WrongShape, "the bytes hold"),
        (damaged(q=torch.zeros(5, 3, dtype=torch.int8)), WrongShape, "the bytes hold"),
        (damaged(q=torch.zeros(3, 5, dtype=torch.uint8)), WrongShape, "the bytes hold"),
    ],
)
def test_wrong_content_is_named(blob: bytes, error: type[ModelError], message: str) -> None:
    with pytest.raises(error, match=message):
        from_blob(replace(ENTRY, num_bytes=len(blob)), blob)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (replace(ENTRY, scheme="w2"), WrongShape, "scheme 'w2'; expected one of n8g64, w4g64, w8c, fp32"),
        (replace(ENTRY, scheme="fp32"), WrongShape, "expected {'value': 'F32'}"),
        (replace(ENTRY, parts=ENTRY.parts[:2]), WrongShape, "parts {'bias': 'F32', 'ksum': 'I32'}"),
        (replace(ENTRY, parts=(*ENTRY.parts, ENTRY.parts[0])), WrongShape, "bias and in_scale may be absent"),
        (replace(ENTRY, parts=(*ENTRY.parts[:-1], PartSpec("scale", "F64", (3,)))), WrongShape, "'scale': 'F64'"),
        (replace(ENTRY, num_bytes=20), WrongShape, "20 bytes cannot hold"),
        (replace(ENTRY, num_bytes=MAX_BLOB_BYTES + 1), BadBlob, "expected at most"),
        (replace(ENTRY, num_bytes=len(BLOB) + 1), BadBlob, f"{len(BLOB)} bytes; expected {len(BLOB) + 1}"),
        (
            replace(ENTRY, parts=tuple(replace(part, shape=(-1, *part.shape[1:])) for part in ENTRY.parts)),
            WrongShape,
            "cannot hold",
        ),
    ],
)
def test_wrong_entries_are_refused(entry: Entry, error: type[ModelError], message: str) -> None:
    with pytest.raises(error, match=message):
        from_blob(entry, BLOB)


def test_parts_must_agree_on_their_rows() -> None:
    blob = damaged(scale=torch.ones(4).half())
    parts = tuple(replace(part, shape=(4,)) if part.name == "scale" else part for part in ENTRY.parts)
    with pytest.raises(WrongShape, match="expected q \\[N, K\\] and the other parts \\[N\\]"):
        from_blob(replace(ENTRY, num_bytes=len(blob), parts=parts), blob)


def planes(value: int, m: int) -> dict[str, Tensor]:
    """Returns planes in which all bytes are equal, and one multiplier for all groups."""
    parts = {name: torch.full((3, 64), value, dtype=torch.uint8) for name in ("hi", "lo")}
    return parts | {"m": torch.full((3, 2), m, dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"m": torch.zeros(3, 2, dtype=torch.uint8)}, BadBlob, "m from 0 to 0; expected 1 to 16"),
        ({"m": torch.full((3, 2), 17, dtype=torch.uint8)}, BadBlob, "m from 17 to 17; expected 1 to 16"),
        (planes(0x88, 16), BadBlob, "give values beyond 119"),
        (planes(0x88, 15), BadBlob, "give values beyond 119"),
        (planes(0x11, 4), BadBlob, "ksum is not the sum of q"),
        ({"ksum": torch.zeros(3, dtype=torch.int32)}, BadBlob, "ksum is not the sum of q"),
        ({"scale": torch.full((3,), torch.inf).half()}, NonFinite, "scale has a value that is not finite"),
        ({"scale": torch.tensor([1.0, -1.0, 1.0]).half()}, NonFinite, "scale has a value that is not positive"),
        ({"bias": torch.full((3,), torch.nan)}, NonFinite, "bias has a value that is not finite"),
        ({"in_scale": torch.zeros(128)}, NonFinite, "in_scale has a value that is not positive"),
        ({"lo": torch.zeros(3, 64, dtype=torch.int8)}, WrongShape, "the bytes hold"),
        ({"hi": torch.zeros(3, 32, dtype=torch.uint8)}, WrongShape, "the bytes hold"),
    ],
)
def test_wrong_planes_are_named(changes: dict[str, Tensor], error: type[ModelError], message: str) -> None:
    blob = damaged(NESTED, **changes)
    with pytest.raises(error, match=message):
        from_blob(replace(make_entry(NESTED, blob), num_bytes=len(blob)), blob)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"m": torch.full((3, 2), 17, dtype=torch.uint8)}, BadBlob, "m from 17 to 17; expected 1 to 16"),
        ({"hi": torch.zeros(3, 64, dtype=torch.uint8)}, BadBlob, "ksum is not the sum of q"),
        ({"lo": torch.zeros(3, 64, dtype=torch.uint8)}, WrongShape, "the bytes hold"),
    ],
)
def test_wrong_nibbles_are_named(changes: dict[str, Tensor], error: type[ModelError], message: str) -> None:
    blob = damaged(INT4, **changes)
    with pytest.raises(error, match=message):
        from_blob(replace(make_entry(INT4, blob), num_bytes=len(blob)), blob)


@pytest.mark.parametrize(
    "shapes",
    [
        {"hi": (3, 48)},
        {"hi": (3, 48), "lo": (3, 48)},
        {"lo": (3, 32)},
        {"m": (3, 1)},
        {"m": (2, 2)},
        {"m": (3, 2, 1)},
        {"hi": (3,), "lo": (3,)},
        {"hi": (), "lo": ()},
        {"scale": (4,)},
        {"ksum": (3, 1)},
        {"bias": (1,)},
        {"in_scale": (3,)},
        {"in_scale": (1, 128)},
    ],
)
def test_planes_must_agree(shapes: dict[str, tuple[int, ...]]) -> None:
    changes = {name: torch.ones(shape, dtype=NESTED.parts[name].dtype) for name, shape in shapes.items()}
    blob = damaged(NESTED, **changes)
    parts = tuple(replace(part, shape=shapes.get(part.name, part.shape)) for part in NESTED.specs)
    entry = replace(make_entry(NESTED, blob), parts=parts)
    expected = r"expected hi and lo \[N, K / 2\], m \[N, K / 64\], in_scale \[K\], the other parts \[N\]"
    with pytest.raises(WrongShape, match=expected):
        from_blob(entry, blob)
