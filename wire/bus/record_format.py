"""The parts of one record of Kafka's message format 2: varints, nullable byte strings, headers, markers.

    record -> attributes, timestamp delta, offset delta, key, value, headers      lengths and deltas are zigzag varints

Functions take the bytes and a position, and return what they read with the position behind it. They raise ValueError
or IndexError where the bytes do not fit.
"""

import struct
from contextlib import suppress

from kafka.record.util import decode_varint  # type: ignore[import-untyped]

from wire.errors import BadMessage

MAX_HEADERS = 1_000
"""Most headers of one record that are read."""

MARKER = struct.Struct(">hh")
"""The key of the record in a control batch: version and type."""

Headers = tuple[tuple[str, bytes | None], ...]


def nullable(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Returns the byte string at `at`, which stands behind its length; None where the length is negative."""
    length, at = decode_varint(data, at)
    if length < 0:
        return None, at
    end = at + length
    if end > len(data):
        raise ValueError(f"a part of {length} bytes does not fit into its record")
    return data[at:end], end


def named_headers(data: bytes, at: int) -> tuple[Headers, BadMessage | None]:
    """Returns the headers that stand from `at` to the end of the record, or why they are not read.

    A header whose name is no UTF-8, or missing, is left out: other programs may have any.
    """
    num, at = decode_varint(data, at)
    if num > MAX_HEADERS:
        return (), BadMessage("oversized", f"there are {num} headers, at most {MAX_HEADERS} are read")
    headers = []
    for _ in range(num):
        name, at = nullable(data, at)
        value, at = nullable(data, at)
        with suppress(UnicodeDecodeError):
            if name is not None:
                headers.append((name.decode(), value))
    if num < 0 or at != len(data):
        raise ValueError("the parts of a record are not as long as the record")
    return tuple(headers), None


def marker_type(body: bytes) -> int:
    """Returns the type of the marker in the body of a control batch: 0 for an abort, 1 for a commit."""
    length, at = decode_varint(body, 0)
    at += 1
    for _ in ("milliseconds", "offset"):
        _, at = decode_varint(body, at)
    key, _ = nullable(body, at)
    if length < 0 or key is None or len(key) < MARKER.size:
        raise ValueError("it is a control batch without a marker")
    _, kind = MARKER.unpack_from(key)
    return int(kind)
