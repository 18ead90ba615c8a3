"""Record batches as bytes: valid ones by the client library's builder, and broken ones that a producer can send."""

import gzip
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import zstandard
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import NotLeaderForPartitionError  # type: ignore[import-untyped]
from kafka.protocol.producer import ProduceRequest  # type: ignore[import-untyped]
from kafka.record import MemoryRecords  # type: ignore[import-untyped]
from kafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]
from kafka.record.util import calc_crc32c  # type: ignore[import-untyped]

from tests.waiting import eventually
from wire.bus.fetching import ByteBudget, FetchedPartition
from wire.bus.record_batches import CHECKSUM_FROM, HEADER, LENGTH_AT, LENGTH_FROM, Raw

NOT_LEADER: int = NotLeaderForPartitionError.errno
PARTITION = TopicPartition("events.v1", 3)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
FORMAT_AT = 16
CHECKSUM_AT = 17
ATTRIBUTES_AT = 21
LAST_OFFSET_AT = 23
FIRST_MS_AT = 27
LARGEST_MS_AT = 35
NUM_RECORDS_AT = 57

Headers = list[tuple[str, bytes]]


def batch(*values: bytes | None, codec: int = 0, headers: Headers | None = None, timestamp_ms: int = 5) -> bytearray:
    """Returns one batch of records with these values."""
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 64 << 20)
    for index, value in enumerate(values):
        builder.append(index, timestamp=timestamp_ms, key=None, value=value, headers=headers if headers else [])
    return bytearray(builder.build())


def sealed(data: bytearray) -> bytearray:
    """Returns `data` with its length and its checksum corrected."""
    struct.pack_into(">i", data, LENGTH_AT, len(data) - LENGTH_FROM)
    struct.pack_into(">I", data, CHECKSUM_AT, calc_crc32c(memoryview(data)[CHECKSUM_FROM:]))
    return data


def bent(data: bytearray, at: int, form: str, number: int) -> bytearray:
    """Returns `data` with `number` at `at`, sealed again."""
    struct.pack_into(form, data, at, number)
    return sealed(data)


def at_offset(data: bytearray, base_offset: int) -> bytearray:
    """Sets the base offset, as a broker does: no checksum covers it."""
    struct.pack_into(">q", data, 0, base_offset)
    return data


def of_codec(codec: int, body: bytes) -> bytearray:
    """Returns a batch of one record whose compressed records are `body`."""
    data = batch(b"")[: HEADER.size] + body
    return bent(data, ATTRIBUTES_AT, ">h", codec)


GOOD = b'{"text": "hello"}'


def _badly_sealed() -> bytearray:
    data = batch(GOOD)
    data[-1] ^= 1
    return data


def _misnamed(codec: int) -> bytearray:
    """Returns a batch of uncompressed records that claims a compression."""
    return bent(batch(GOOD), ATTRIBUTES_AT, ">h", codec)


def _header_name(name: bytes) -> bytearray:
    data = batch(GOOD, headers=[("name", b"value")])
    at = data.index(b"name")
    data[at : at + 4] = name
    return sealed(data)


def _nameless_header() -> bytearray:
    data = batch(GOOD, headers=[("name", b"value")])
    at = data.index(b"name")
    data[at - 1 : at + 4] = b"\x01"  # a length of -1, and no bytes
    data[HEADER.size] -= 8  # the record is 4 bytes shorter, and lengths are written twice as large
    return sealed(data)


READABLE: dict[str, Callable[[], bytearray]] = {
    **{f"{name} frame": partial(batch, *[GOOD] * 50, codec=codec) for name, codec in CODECS.items()},
    "header name that is not UTF-8": lambda: _header_name(b"\xff\xfe\x00\x80"),
    "header without a name": _nameless_header,
    "last offset before the first": lambda: bent(batch(GOOD), LAST_OFFSET_AT, ">i", -5),
    "earliest timestamp": lambda: bent(batch(GOOD), FIRST_MS_AT, ">q", -(2**63)),
    "latest timestamp": lambda: bent(batch(GOOD), FIRST_MS_AT, ">q", 2**63 - 1),
    "latest append time": lambda: bent(bent(batch(GOOD), LARGEST_MS_AT, ">q", 2**63 - 1), ATTRIBUTES_AT, ">h", 8),
}
"""Batches whose records are all events."""

UNREADABLE: dict[str, Callable[[], bytearray]] = {
    "checksum": _badly_sealed,
    **{f"{name} frame": partial(_misnamed, codec) for name, codec in CODECS.items() if codec},
    "codec": partial(_misnamed, 7),
    "half a gzip frame": lambda: of_codec(1, gzip.compress(bytes(batch(GOOD)[HEADER.size :]))[:-20]),
    "gzip bomb": lambda: of_codec(1, gzip.compress(bytes(100 << 20), 1)),
    "zstd bomb": lambda: of_codec(4, zstandard.ZstdCompressor().compress(bytes(100 << 20))),
    "snappy bomb": lambda: of_codec(2, b"\xff\xff\xff\xff\x0f" + bytes(20)),
    "control batch of a client": lambda: bent(batch(GOOD), ATTRIBUTES_AT, ">h", 0x20),
    "format": lambda: bent(batch(GOOD), FORMAT_AT, ">b", 1),
    "format of tomorrow": lambda: bent(batch(GOOD), FORMAT_AT, ">b", 9),
    "more records than it says": lambda: bent(batch(GOOD, GOOD), NUM_RECORDS_AT, ">i", -1),
    "length of a record": lambda: bent(batch(GOOD), HEADER.size, ">b", 0x7E),
    "negative length of a record": lambda: bent(batch(GOOD), HEADER.size, ">b", 0x7F),
    "records behind the batch": lambda: bent(batch(GOOD, GOOD, GOOD), LAST_OFFSET_AT, ">i", 0),
}


def read(data: bytes | bytearray, *, fetch_offset: int = 0, aborted: tuple[Any, ...] = ()) -> list[Raw]:
    """Returns one fetch as our reader parses it."""
    fetched = FetchedPartition(
        fetch_offset,
        PARTITION,
        MemoryRecords(bytes(data)),
        budget=ByteBudget(),
        isolation_level=1,
        aborted_transactions=aborted,
        on_drain=lambda _: None,
    )
    raws = []
    while fetched:
        raws += fetched.take(100)
    return raws


def produce(admin: Any, topic: str, data: bytes | bytearray) -> int:
    """Sends raw bytes to partition 0, once it has a leader; returns the error code of the broker, or 0."""
    kind = ProduceRequest.TopicProduceData
    partition = kind.PartitionProduceData(index=0, records=bytes(data))
    request = ProduceRequest(
        transactional_id=None,
        acks=-1,
        timeout_ms=10_000,
        topic_data=[kind(name=topic, partition_data=[partition])],
        max_version=9,
    )
    (node,) = admin._manager.cluster.brokers()
    codes: list[int] = []

    def was_answered() -> bool:
        response = admin._manager.run(lambda: admin._manager.send(request, node_id=node.node_id))
        codes.append(response.responses[0].partition_responses[0].error_code)
        return codes[-1] != NOT_LEADER

    eventually(was_answered)
    return codes[-1]
