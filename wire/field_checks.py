"""Checks the values of a record that was read: what `wire.envelope` refuses though its types are right. Pure.

Every field that becomes an id, a key or a header somewhere is bounded, so every record that is read can be sent again.

Rejected: constraints in the types of the records (their errors name neither the field's size nor what to do).
"""

import math

import msgspec

from wire.errors import BadMessage
from wire.features import problem_of, problem_of_content
from wire.records import TOPIC_RECORDS, Answer, Event, Feedback, Quarantined, TopicRecord
from wire.targets import MARKS, problem_of_labels
from wire.timestamps import is_time

MAX_FIELD_BYTES = 1 << 10
"""Longest id, key, source, label or other short field that is read, in bytes of UTF-8."""


def _short_fields(record: type[TopicRecord]) -> tuple[str, ...]:
    """Returns the names of the text fields that are bounded by MAX_FIELD_BYTES."""
    texts = [field.name for field in msgspec.structs.fields(record) if field.type in (str, str | None)]
    return tuple(name for name in texts if name not in ("text", "detail", "answered"))


SHORT_FIELDS: dict[type, tuple[str, ...]] = {record: _short_fields(record) for record in TOPIC_RECORDS}


def check_fields(record: TopicRecord) -> None:
    """Raises BadMessage, with the field, where a value of `record` is too long, blank, or no time."""
    for name in SHORT_FIELDS[type(record)]:
        check_length(f"`{name}`", _num_bytes(getattr(record, name)), at_most=MAX_FIELD_BYTES)
    for label in _labels_of(record):
        check_length("a name in `labels`", _num_bytes(label), at_most=MAX_FIELD_BYTES)
    if problem := _problem_of(record):
        raise BadMessage("wrong_schema", problem)
    if not is_time(record.time_ms):
        raise BadMessage("wrong_schema", f"`time_ms` is {record.time_ms}, not milliseconds since 1970")


def check_length(name: str, num_bytes: int, *, at_most: int) -> None:
    """Raises BadMessage where a value has more bytes than are read."""
    if num_bytes > at_most:
        raise BadMessage("oversized", f"{name} has {num_bytes} bytes, at most {at_most} are read")


def _problem_of(record: TopicRecord) -> str:
    if isinstance(record, Event):
        return problem_of_content(record.text, record.features)
    if isinstance(record, Feedback):
        if not record.event_id.strip():
            return "`event_id` is blank"
        if problem := problem_of_label(record):
            return problem
    return problem_of(record.features) if isinstance(record, Answer | Feedback | Quarantined) else ""


def problem_of_label(record: Feedback) -> str:
    """Returns what is wrong with the label, the set of labels or the score that was sent; "" where nothing is."""
    num_given = (record.labels is not None) + (record.value is not None) + bool(record.label)
    if num_given > 1:
        return "give either `label` or `labels` or `value`"
    if record.value is not None:
        return "" if math.isfinite(record.value) else f"`value` is {record.value}, not a finite number"
    if record.labels is None and not record.label.strip():
        return "`label` is blank"
    if any(mark in name for name in (record.label, *_labels_of(record)) for mark in MARKS):
        return "a label has one of the characters U+001C, U+001D and U+001F, which separate labels: leave it out"
    return problem_of_labels(_labels_of(record))


def _labels_of(record: TopicRecord) -> tuple[str, ...]:
    """Returns the set of labels of a record that has one."""
    return (record.labels or ()) if isinstance(record, Answer | Feedback | Quarantined) else ()


def _num_bytes(text: str | None) -> int:
    return 0 if text is None else len(text.encode())
