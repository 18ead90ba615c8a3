"""The dead letters of events that were read and are refused here or by the model, and of records that cannot be
sent."""

import msgspec

from serving.item import ItemFailure
from serving.kafka.sending import MAX_ATTEMPTS, Sending
from wire.bus import Position, Received
from wire.errors import SendFailed
from wire.letters import letter, unsendable
from wire.message import Place, shown
from wire.records import DeadLetter, Event


def place_of(position: Position) -> Place:
    return Place(topic=position.topic, partition=position.partition, offset=position.offset)


def conflicting_id(received: Received[Event]) -> DeadLetter:
    """Returns the letter of an event whose id another event of its source has."""
    event = received.record
    detail = f"event {shown(event.id)} came before with another text or key; an id is unique within its source"
    return _letter("conflicting_id", detail, event, received.position)


def model_failure(failure: ItemFailure, position: Position) -> DeadLetter:
    """Returns the letter of an event that the model could not answer."""
    event = failure.event
    return _letter(failure.reason, f"the model could not answer event {shown(event.id)}", event, position)


def unsendable_letter(sending: Sending, error: Exception, *, source: str) -> DeadLetter | None:
    """Returns the letter that goes in the place of a record that can never be sent; None where the record goes again.

    A letter that is already as small as it can be goes again, too.
    """
    is_permanent = isinstance(error, SendFailed) and error.is_permanent
    if not is_permanent and sending.attempts < MAX_ATTEMPTS:
        return None
    short = unsendable(sending.record, SendFailed(str(error)), sending.place, source=source)
    return short if short != sending.record else None


def _letter(reason: str, detail: str, event: Event, position: Position) -> DeadLetter:
    """Returns a letter whose payload is the event as it was parsed: the original message is no longer here."""
    payload = msgspec.json.encode(event)
    return letter(reason, detail, place_of(position), payload=payload, source=event.source, time_ms=event.time_ms)
