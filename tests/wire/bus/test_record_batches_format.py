"""The parts of a record of message format 2, and bytes that do not fit."""

import pytest
from kafka.record.util import encode_varint  # type: ignore[import-untyped]

from wire.bus.record_batches import MARKER, MAX_HEADERS, marker_type, read_headers, read_nullable


def varint(value: int) -> bytes:
    written = bytearray()
    encode_varint(value, written.append)
    return bytes(written)


def part(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def headers(*pairs: tuple[bytes | None, bytes | None]) -> bytes:
    return varint(len(pairs)) + b"".join(part(name) + part(value) for name, value in pairs)


def test_a_byte_string_stands_behind_its_length() -> None:
    data = part(b"abc") + part(None) + part(b"")
    assert read_nullable(data, 0) == (b"abc", 4)
    assert read_nullable(data, 4) == (None, 5)
    assert read_nullable(data, 5) == (b"", 6)


@pytest.mark.parametrize("data", [varint(9) + b"abc", b""])
def test_a_byte_string_that_does_not_fit_is_an_error(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        read_nullable(data, 0)


def test_headers_of_others_are_passed_whatever_they_hold() -> None:
    ours = b"ce_id"
    found, refusal = read_headers(headers((b"\xff", b"x"), (ours, b"v"), (None, None), (ours, None)), 0)
    assert found == (("ce_id", b"v"), ("ce_id", None))
    assert refusal is None


def test_too_many_headers_are_refused_before_they_are_read() -> None:
    found, refusal = read_headers(varint(MAX_HEADERS + 1), 0)
    assert found == ()
    assert refusal is not None and "at most" in str(refusal)


@pytest.mark.parametrize("data", [varint(-1), headers() + b"more"])
def test_headers_are_as_long_as_the_record(data: bytes) -> None:
    with pytest.raises(ValueError, match="not as long as the record"):
        read_headers(data, 0)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_marker_says_what_became_of_its_transaction(kind: int) -> None:
    body = b"\x00" + varint(0) + varint(0) + part(MARKER.pack(0, kind))
    assert marker_type(varint(len(body)) + body) == kind


def test_a_control_batch_without_a_marker_is_an_error() -> None:
    body = b"\x00" + varint(0) + varint(0) + part(b"x")
    with pytest.raises(ValueError, match="without a marker"):
        marker_type(varint(len(body)) + body)
