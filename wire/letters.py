"""Dead letters: what was refused, or cannot be sent, as a record that can always be sent.

    message that is no record  --refuse-->      DeadLetter
    record that is never taken --unsendable-->  DeadLetter

A letter is bounded in every field, so that the topic of letters takes it whatever a client has sent. The payload of a
refused message is whole up to MAX_PAYLOAD_BYTES. That of a record which a broker did not take is cut at
MAX_SHORT_PAYLOAD_BYTES, for its own size may have been the reason. The detail names the size of what was cut.

Rejected: to refuse the letter too (the partition would stand still for ever), and a letter that refers to the message
by its place alone (the topic forgets it sooner than an operator comes).
"""

from wire.envelope import MAX_DETAIL_CHARS, MAX_FIELD_BYTES, Message, Place, clamped_ms, to_message
from wire.errors import BadMessage, SendFailed
from wire.records import DeadLetter, TopicRecord

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message that our topics take, but for that of dead letters."""

MAX_LETTER_BYTES = MAX_MESSAGE_BYTES + (1 << 20)
"""Largest dead letter that its topic takes."""

MAX_PAYLOAD_BYTES = MAX_MESSAGE_BYTES
MAX_SHORT_PAYLOAD_BYTES = 64 << 10
ENCODING_ERRORS = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What `to_message` raises for a record whose fields are not what their types say."""


def refuse(error: BadMessage, message: Message, place: Place, *, source: str) -> DeadLetter:
    """The dead letter of `message`, refused by `source` with `error`; the same message always makes the same letter."""
    return _letter(
        error.reason,
        error.detail,
        place,
        payload=message.value if message.value else b"",
        max_payload_bytes=MAX_PAYLOAD_BYTES,
        source=source,
        time_ms=message.timestamp_ms,
    )


def unsendable(record: TopicRecord, error: SendFailed, place: Place, *, source: str) -> DeadLetter:
    """The dead letter of `record`, which came of the message at `place` and was not taken, as `error` says.

    A dead letter that was too large keeps its reason and its origin, and only its payload is cut.
    """
    if isinstance(record, DeadLetter):
        reason = record.reason
        detail = record.detail
        place = Place(topic=record.topic, partition=record.partition, offset=record.offset)
    else:
        reason = "unsendable"
        detail = str(error)
    return _letter(
        reason,
        detail,
        place,
        payload=_value_of(record),
        max_payload_bytes=MAX_SHORT_PAYLOAD_BYTES,
        source=source,
        time_ms=record.time_ms,
    )


def _letter(
    reason: str, detail: str, place: Place, *, payload: bytes, max_payload_bytes: int, source: str, time_ms: int
) -> DeadLetter:
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


def _value_of(record: TopicRecord) -> bytes:
    """The value of the record's message; nothing where the record has none."""
    try:
        value = to_message(record).value
    except ENCODING_ERRORS:
        return b""
    return value if value else b""


def _encodable(text: str) -> str:
    """`text` without halves of surrogate pairs, which UTF-8 does not know."""
    return text.encode(errors="replace").decode()


def _shortened(text: str, *, max_bytes: int) -> str:
    """The beginning of `text` that has at most `max_bytes` bytes of UTF-8."""
    return text.encode(errors="replace")[:max_bytes].decode(errors="ignore")
