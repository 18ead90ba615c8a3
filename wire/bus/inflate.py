"""Decompresses batches, up to MAX_INFLATED_BYTES each: a decompression bomb of kilobytes can inflate to gigabytes.

The client library has the same codecs, without a bound, and each with errors of its own. Here all errors are
ValueError.

Rejected: a bound on the ratio (a batch of zeros is no attack, and a large batch of texts may be one).
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any, cast

import lz4.frame  # type: ignore[import-untyped]
import snappy  # type: ignore[import-untyped]
import zstandard

MAX_INFLATED_BYTES = 64 << 20
"""Largest decompressed batch: eight times our largest message."""

GZIP_FORMAT = 31  # zlib's `wbits` for the gzip format with the largest window
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = 16  # the magic and two versions

Codec = Callable[[memoryview], bytes]


def inflate(codec: int, data: memoryview) -> bytes | memoryview:
    """Returns the records of a batch with compression `codec`. Raises ValueError for an unknown codec, a broken frame,
    or more than MAX_INFLATED_BYTES.
    """
    if codec == 0:
        return data
    if codec not in CODECS:
        raise ValueError(f"no compression has the number {codec}")
    name, decompress = CODECS[codec]
    try:
        inflated = decompress(data)
    except (zlib.error, zstandard.ZstdError, snappy.UncompressError, RuntimeError, struct.error) as error:
        raise ValueError(f"the {name} frame is broken: {error}") from error
    if len(inflated) > MAX_INFLATED_BYTES:
        raise ValueError(f"the {name} frame inflates to more than {MAX_INFLATED_BYTES} bytes")
    return inflated


def _gzip(data: memoryview) -> bytes:
    return zlib.decompressobj(GZIP_FORMAT).decompress(data, MAX_INFLATED_BYTES + 1)


def _lz4(data: memoryview) -> bytes:
    decompressor: Any = lz4.frame.LZ4FrameDecompressor()  # its RuntimeError names what is wrong
    return cast(bytes, decompressor.decompress(data, max_length=MAX_INFLATED_BYTES + 1))


def _zstd(data: memoryview) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_INFLATED_BYTES)
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        return reader.read(MAX_INFLATED_BYTES + 1)


def _snappy(data: memoryview) -> bytes:
    """Decompresses one block, or the framed blocks of the Java library, each preceded by its size."""
    if bytes(data[: len(XERIAL_MAGIC)]) != XERIAL_MAGIC:
        return _snappy_block(data, room=MAX_INFLATED_BYTES)
    blocks: list[bytes] = []
    at = XERIAL_HEADER_BYTES
    room = MAX_INFLATED_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        blocks.append(_snappy_block(data[at + 4 : at + 4 + size], room=room))
        room -= len(blocks[-1])
        at += 4 + size
    return b"".join(blocks)


def _snappy_block(block: memoryview, *, room: int) -> bytes:
    """Decompresses a block. It begins with its decompressed size, a little-endian varint of 7 bits a byte."""
    size = 0
    for index, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    if size > room:
        raise ValueError(f"the snappy frame inflates to more than {MAX_INFLATED_BYTES} bytes")
    return cast(bytes, snappy.decompress(bytes(block)))


CODECS: dict[int, tuple[str, Codec]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _lz4),
    4: ("zstd", _zstd),
}
