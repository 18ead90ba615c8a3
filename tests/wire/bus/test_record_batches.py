"""B4: for any bytes of a batch, all of its offsets are returned, as records or as dead letters."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.bus import batch_bytes
from tests.wire.bus.batch_bytes import (
    ATTRIBUTES_AT,
    CODECS,
    GOOD,
    LAST_OFFSET_AT,
    NUM_RECORDS_AT,
    READABLE,
    UNREADABLE,
    at_offset,
    batch,
    bent,
    sealed,
)
from tests.wire.test_dead_letters import record_size
from wire.bus.offsets import Position
from wire.bus.reading import Received, Refused, TopicReading, read
from wire.bus.record_batches import MAX_HEADERS, Raw
from wire.dead_letters import MAX_LETTER_BYTES
from wire.records import Event, LogMark
from wire.timestamps import is_time


def items(raws: list[Raw]) -> list[Received[Event] | Refused]:
    """Returns the raw records as our readers parse them."""
    position = Position(topic="events.v1", partition=3, offset=0, generation=0)
    return [
        read(raw, TopicReading(record_type=Event), position, mark=LogMark(), refused_by="replica-1")
        for raw in raws
        if not raw.is_gap
    ]


def spans(raws: list[Raw]) -> list[tuple[int, int]]:
    return [(raw.offset, raw.next_offset) for raw in raws]


@pytest.mark.parametrize("name", READABLE)
def test_what_can_be_read(name: str) -> None:
    found = items(batch_bytes.read(READABLE[name]()))
    assert {type(item) for item in found} == {Received}
    assert all(is_time(item.record.time_ms) for item in found if isinstance(item, Received))


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_one_letter_and_the_next_batch_is_read(name: str) -> None:
    data = UNREADABLE[name]()
    *bad, good = batch_bytes.read(at_offset(data, 7) + at_offset(batch(GOOD), 12), fetch_offset=7)
    assert good.value == GOOD
    assert good.offset == 12
    assert [raw.error.reason for raw in bad if raw.error] == ["unreadable_batch"]
    assert bad[-1].value == bytes(data)


def test_a_letter_names_the_offsets_and_the_reason() -> None:
    data = bent(batch(GOOD, GOOD, GOOD), NUM_RECORDS_AT, ">i", 2)
    first, rest = batch_bytes.read(at_offset(data, 7))
    assert spans([first, rest]) == [(7, 8), (8, 10)]
    letter = items([rest])[0]
    assert isinstance(letter, Refused)
    assert letter.dead_letter.message_id == "events.v1/3/8"
    assert letter.dead_letter.detail == (
        "offsets 8 to 9 of a batch that begins at 7: 24 bytes are left over after 2 records"
    )


def test_a_damaged_batch_is_passed_as_far_as_its_header_agrees_with_itself() -> None:
    data = batch(GOOD, GOOD, GOOD)
    data[-1] ^= 1
    assert spans(batch_bytes.read(data)) == [(0, 3)]
    data[LAST_OFFSET_AT] = 0x7F  # it would say that two billion offsets belong to it
    assert spans(batch_bytes.read(data)) == [(0, 1)]


def test_offsets_that_hold_nothing_are_passed() -> None:
    data = bent(batch(GOOD), LAST_OFFSET_AT, ">i", 9)  # as compaction leaves it
    assert spans(batch_bytes.read(data)) == [(0, 1), (1, 10)]
    nothing = sealed(batch(GOOD)[:61])
    assert [raw.is_gap for raw in batch_bytes.read(bent(nothing, NUM_RECORDS_AT, ">i", 0))] == [True]


def test_a_fetch_may_begin_within_a_batch_and_end_within_another() -> None:
    data = at_offset(batch(GOOD, GOOD, GOOD), 7) + at_offset(batch(GOOD), 10)
    assert [raw.offset for raw in batch_bytes.read(data[:-1], fetch_offset=8)] == [8, 9]


def test_a_record_with_too_many_headers_is_refused_alone() -> None:
    many = [("x", b"")] * (MAX_HEADERS + 1)
    data = batch(GOOD, headers=many) + at_offset(batch(GOOD), 1)
    refused, good = items(batch_bytes.read(data))
    assert isinstance(refused, Refused) and isinstance(good, Received)
    assert (refused.dead_letter.reason, refused.dead_letter.payload) == ("oversized", GOOD)


def marker(kind: int, *, producer: int) -> bytearray:
    """Returns the control batch that a broker writes at the end of a transaction."""
    data = batch(None)
    at = data.index(b"\x01\x01\x00", 61)  # no key, no value, no headers
    data[at : at + 1] = bytes([8, 0, 0, 0, kind])
    data[61] += 8
    return _of_producer(bent(data, ATTRIBUTES_AT, ">h", 0x30), producer)


def _of_producer(data: bytearray, producer: int) -> bytearray:
    return bent(data, 43, ">q", producer)


def test_aborted_transactions_are_gaps() -> None:
    """The batches of two producers are interleaved; one of them aborts, then commits."""
    batches = [
        _of_producer(bent(batch(b"aborted"), ATTRIBUTES_AT, ">h", 0x10), 1),
        _of_producer(bent(batch(b"other"), ATTRIBUTES_AT, ">h", 0x10), 2),
        marker(0, producer=1),
        _of_producer(bent(batch(b"committed"), ATTRIBUTES_AT, ">h", 0x10), 1),
        marker(1, producer=1),
        marker(1, producer=2),
    ]
    data = b"".join(bytes(at_offset(each, offset)) for offset, each in enumerate(batches))
    aborted = (SimpleNamespace(producer_id=1, first_offset=0),)
    raws = batch_bytes.read(data, aborted=aborted)
    assert [raw.value for raw in raws if not raw.is_gap] == [b"other", b"committed"]
    assert spans(raws) == [(offset, offset + 1) for offset in range(6)]


whole = st.builds(
    batch,
    *[st.sampled_from([GOOD, None, b"", b"x" * 300])] * 3,
    codec=st.sampled_from(sorted(CODECS.values())),
    headers=st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=2),
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
)


@given(
    batches=st.lists(whole, min_size=1, max_size=3),
    edits=st.lists(st.tuples(st.integers(8, 500), st.integers(0, 255)), max_size=4),
    must_seal=st.booleans(),
    fetch_offset=st.integers(0, 6),
    cut=st.integers(0, 30),
)
def test_any_bytes_move_on(
    batches: list[bytearray], edits: list[tuple[int, int]], must_seal: bool, fetch_offset: int, cut: int
) -> None:
    for index, each in enumerate(batches):
        at_offset(each, 3 * index)
        for at, byte in edits:
            if at < len(each):
                each[at] = byte
        if must_seal:
            sealed(each)
    data: Any = b"".join(bytes(each) for each in batches)
    raws = batch_bytes.read(data[: len(data) - cut], fetch_offset=fetch_offset)
    ends = [fetch_offset, *(raw.next_offset for raw in raws)]
    assert ends == sorted(set(ends))  # each one goes on
    for item in items(raws):
        if isinstance(item, Refused):
            assert record_size(item.dead_letter) < MAX_LETTER_BYTES


@given(st.binary(max_size=300))
def test_noise_raises_nothing(data: bytes) -> None:
    batch_bytes.read(data)
    batch_bytes.read(sealed(bytearray(61) + data))
