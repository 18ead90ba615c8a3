"""Makes dead-letter records of refused messages, and of records that cannot be sent. Dead letters can always be sent.

    message that is not a valid record      --refuse-->       DeadLetter
    event that cannot be answered           --refuse_event--> DeadLetter
    record that the broker never accepts    --unsendable-->   DeadLetter

Every field of a dead letter is bounded, so the dead-letter topic accepts it, whatever a client has sent. The payload of
a refused message is complete up to MAX_PAYLOAD_BYTES. The payload of a record that the broker refused is truncated to
MAX_SHORT_PAYLOAD_BYTES, because its size may have been the reason. The detail then has the original size.
"""

import msgspec

from wire.envelope import MAX_DETAIL_CHARS, MAX_FIELD_BYTES, to_message
from wire.errors import BadMessage, SendFailed
from wire.message import Message, Place
from wire.records import DeadLetter, Event, TopicRecord
from wire.timestamps import clamped_ms

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message that our topics accept, except the dead-letter topic."""

MAX_LETTER_BYTES = MAX_MESSAGE_BYTES + (1 << 20)
"""Largest message that the dead-letter topic accepts."""

MAX_PAYLOAD_BYTES = MAX_MESSAGE_BYTES
MAX_SHORT_PAYLOAD_BYTES = 64 << 10
ENCODING_ERRORS = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""The errors that `to_message` raises for a record whose fields do not have their declared types."""


def refuse(error: BadMessage, message: Message, place: Place, *, source: str) -> DeadLetter:
    """Returns the dead letter of `message`, which `source` refused with `error`. Equal messages give equal records."""
    return letter(
        error.reason,
        error.detail,
        place,
        payload=message.value if message.value else b"",
        source=source,
        time_ms=message.timestamp_ms,
    )


def refuse_event(reason: str, detail: str, event: Event, place: Place) -> DeadLetter:
    """Returns the dead letter of an event that was read from `place` and refused later.

    The payload is the parsed event, because the message is no longer available.
    """
    payload = msgspec.json.encode(event)
    return letter(reason, detail, place, payload=payload, source=event.source, time_ms=event.time_ms)


def unsendable(record: TopicRecord, error: SendFailed, place: Place, *, source: str) -> DeadLetter:
    """Returns the dead letter of `record`, which was made from the message at `place` and refused with `error`.

    If `record` is itself a dead letter, it keeps its reason and its origin, and its payload is truncated.
    """
    if isinstance(record, DeadLetter):
        reason = record.reason
        detail = record.detail
        place = Place(topic=record.topic, partition=record.partition, offset=record.offset)
    else:
        reason = "unsendable"
        detail = str(error)
    return letter(
        reason,
        detail,
        place,
        payload=_encoded_value(record),
        max_payload_bytes=MAX_SHORT_PAYLOAD_BYTES,
        source=source,
        time_ms=record.time_ms,
    )


def letter(
    reason: str,
    detail: str,
    place: Place,
    *,
    payload: bytes,
    max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    source: str,
    time_ms: int,
) -> DeadLetter:
    """Returns the dead letter of the message at `place`, with every field truncated to a length that can be sent."""
    cut = ""
    if len(payload) > max_payload_bytes:
        cut = f" (the payload is cut: the first {max_payload_bytes} of {len(payload)} bytes)"
    return DeadLetter(
        reason=_shortened(reason, max_bytes=MAX_FIELD_BYTES),
        detail=_encodable(detail)[: MAX_DETAIL_CHARS - len(cut)] + cut,
        topic=_shortened(place.topic, max_bytes=MAX_FIELD_BYTES),
        partition=place.partition,
        offset=place.offset,
        payload=payload[:max_payload_bytes],
        source=_shortened(source, max_bytes=MAX_FIELD_BYTES),
        time_ms=clamped_ms(time_ms),
    )


def _encoded_value(record: TopicRecord) -> bytes:
    """Returns the value of the record's message; empty if the record cannot be encoded."""
    try:
        value = to_message(record).value
    except ENCODING_ERRORS:
        return b""
    return value if value else b""


def _encodable(text: str) -> str:
    """Replaces lone surrogates, which UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()


def _shortened(text: str, *, max_bytes: int) -> str:
    """Returns the longest prefix of `text` that has at most `max_bytes` bytes in UTF-8."""
    return text.encode(errors="replace")[:max_bytes].decode(errors="ignore")
