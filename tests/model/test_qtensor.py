"""Stored tensors: the error bound of rounding, the bytes, and what is refused on the way in."""

import struct
from dataclasses import dataclass, replace

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.errors import BadBlob, ModelError, NonFinite, WrongShape
from model.qtensor import MAX_BLOB_BYTES, PartSpec, QTensor, from_blob, plain, quantize_w8c


@dataclass(frozen=True)
class Entry:
    """What a manifest says of a tensor."""

    name: str
    scheme: str
    num_bytes: int
    parts: tuple[PartSpec, ...]


def entry_of(tensor: QTensor, blob: bytes) -> Entry:
    return Entry(tensor.name, tensor.scheme, len(blob), tensor.specs)


def matrix(num_out: int, num_in: int, *, seed: int = 0) -> Tensor:
    return torch.randn(num_out, num_in, generator=torch.Generator().manual_seed(seed))


STORED = quantize_w8c("layers.0.up", matrix(3, 5), torch.tensor([1.0, 2.0, 3.0]))
BLOB = STORED.to_blob()
ENTRY = entry_of(STORED, BLOB)


def same(one: QTensor, other: QTensor) -> bool:
    return (one.name, one.scheme, one.specs) == (other.name, other.scheme, other.specs) and all(
        torch.equal(part, other.parts[name]) for name, part in one.parts.items()
    )


@given(st.integers(1, 6), st.integers(1, 40), st.floats(1e-8, 1e5), st.integers(0, 1 << 30))
@settings(max_examples=80, deadline=None)
def test_rounding_is_within_half_a_step(num_out: int, num_in: int, size: float, seed: int) -> None:
    w_NK = matrix(num_out, num_in, seed=seed) * size
    stored = quantize_w8c("w", w_NK)
    half_step_N1 = stored.parts["scale"].double()[:, None] / 2
    assert ((stored.dequantize().double() - w_NK.double()).abs() <= half_step_N1 * (1 + 1e-5)).all()
    assert stored.parts["q"].abs().max() <= 127


def test_quantizing_the_dequantized_changes_nothing() -> None:
    assert quantize_w8c("w", STORED.dequantize()).to_blob() == quantize_w8c("w", matrix(3, 5)).to_blob()


def test_zero_rows_are_exact() -> None:
    stored = quantize_w8c("w", torch.zeros(2, 4))
    assert torch.equal(stored.dequantize(), torch.zeros(2, 4))
    assert same(from_blob(entry_of(stored, stored.to_blob()), stored.to_blob()), stored)


@given(st.integers(1, 5), st.integers(1, 9), st.booleans())
@settings(deadline=None)
def test_blob_round_trip(num_out: int, num_in: int, with_bias: bool) -> None:
    stored = quantize_w8c("w", matrix(num_out, num_in), torch.zeros(num_out) if with_bias else None)
    blob = stored.to_blob()
    assert same(from_blob(entry_of(stored, blob), bytearray(blob)), stored)


def test_plain_round_trip() -> None:
    stored = plain("embed.norm", matrix(2, 7))
    assert stored.shape == (2, 7) and stored.bias is None
    assert same(from_blob(entry_of(stored, stored.to_blob()), stored.to_blob()), stored)


def test_equal_tensors_give_equal_bytes() -> None:
    again = quantize_w8c("another.name", matrix(3, 5), torch.tensor([1.0, 2.0, 3.0]))
    reordered = replace(again, parts=dict(sorted(again.parts.items(), reverse=True)))
    assert BLOB == again.to_blob() == reordered.to_blob()


def test_stored_parts_do_not_follow_the_trained_tensor() -> None:
    value, bias = torch.ones(2, 3), torch.ones(2)
    norm, layer = plain("n", value), quantize_w8c("w", value, bias)
    value.zero_(), bias.zero_()
    assert norm.parts["value"].min() == 1 and layer.parts["bias"].min() == 1


@given(st.integers(0, len(BLOB) - 1))
@settings(deadline=None)
def test_truncation_is_refused(length: int) -> None:
    for entry in (ENTRY, replace(ENTRY, num_bytes=length)):
        with pytest.raises(ModelError):
            from_blob(entry, BLOB[:length])


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_never_makes_another_shape(position: int, change: int) -> None:
    damaged = bytearray(BLOB)
    damaged[position] ^= change
    try:
        found = from_blob(ENTRY, damaged)
    except ModelError:
        return
    assert found.specs == STORED.specs


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_arbitrary_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(ModelError):
        from_blob(replace(ENTRY, num_bytes=len(blob)), blob)


def test_an_absurd_header_is_refused() -> None:
    blob = struct.pack("<Q", 1 << 60) + BLOB[8:]
    with pytest.raises(BadBlob, match="not safetensors"):
        from_blob(ENTRY, blob)


def damaged(**changes: Tensor | None) -> bytes:
    parts = {name: part for name, part in ({**STORED.parts, **changes}).items() if part is not None}
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
        (replace(ENTRY, scheme="w2"), WrongShape, "scheme 'w2'; expected one of w8c, fp32"),
        (replace(ENTRY, scheme="fp32"), WrongShape, "expected {'value': 'F32'}"),
        (replace(ENTRY, parts=ENTRY.parts[:2]), WrongShape, "parts {'bias': 'F32', 'ksum': 'I32'}"),
        (replace(ENTRY, parts=(*ENTRY.parts, ENTRY.parts[0])), WrongShape, "bias may be absent"),
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


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e9])
def test_weights_that_cannot_be_stored(value: float) -> None:
    with pytest.raises(NonFinite, match=r"layers\.0\.out\.scale has a value that is not finite"):
        quantize_w8c("layers.0.out", torch.tensor([[0.0, value]]))


def test_plain_refuses_nan() -> None:
    with pytest.raises(NonFinite):
        plain("embed.norm", torch.tensor([torch.nan]))


@pytest.mark.parametrize(("w_NK", "bias_N"), [(torch.zeros(4), None), (torch.zeros(2, 3), torch.zeros(3))])
def test_quantize_refuses_shapes(w_NK: Tensor, bias_N: Tensor | None) -> None:
    with pytest.raises(WrongShape, match=r"expected \[N, K\] and \[N\]"):
        quantize_w8c("w", w_NK, bias_N)
