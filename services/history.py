"""Labelled history for the learner: texts whose labels are known already, from a file.

    lines of JSON --> labelled, all checked first, also against the set of labels --> approved (signed with our key)
                  --> feedback.v1 --> the learner

A line is `{"text": ..., "label": ...}`, and may have `id`, `source` (that of the event), `key` and `time_ms`. A line
without an id gets the digest of its text as one, so that the same file may be sent twice: the learner counts what it
knows as `duplicate`. An operator vouches for the file, so no limit on sources holds its labels.
"""

from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import msgspec

from wire.bus import Bus
from wire.label_set import LabelSet
from wire.receipts import Receipts
from wire.records import MAX_TEXT_CHARS, Feedback

TIMEOUT_S = 120.0


class BadHistory(ValueError):
    """A line of the file is no labelled text; the message names the line."""


class HistoryLine(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One line of the file."""

    text: str
    label: str
    id: str = ""
    source: str = "history"
    key: str = ""
    time_ms: int = 0


def labelled(path: Path, labels: LabelSet, *, source: str) -> Iterator[Feedback]:
    """Yields the label of each line of `path`, said by `source`; blank lines are skipped.

    Raises BadHistory, also where a label is not in the set of `labels`.
    """
    decoder = msgspec.json.Decoder(HistoryLine)
    with path.open("rb") as lines:
        for number, data in enumerate(lines, start=1):
            if not data.strip():
                continue
            try:
                line = decoder.decode(data)
            except msgspec.DecodeError as error:
                raise BadHistory(f"{path}, line {number}: {error}") from None
            if not line.text.strip() or not line.label.strip():
                raise BadHistory(f"{path}, line {number}: text and label must not be blank")
            if reason := labels.refusal(line.label, lambda name: True):
                raise BadHistory(f"{path}, line {number}: {labels.why(reason, line.label)}")
            yield _feedback_of(line, source)


def send(bus: Bus, receipts: Receipts, path: Path, labels: LabelSet, *, source: str) -> int:
    """Sends every line to the learner, approved; returns how many when the broker has all of them.

    Nothing is sent where any line is bad. Raises BadHistory, and what the bus raises.
    """
    num_lines = sum(1 for _ in labelled(path, labels, source=source))
    with closing(bus.publisher()) as publisher:
        publisher.send_all(map(receipts.approved, labelled(path, labels, source=source)), TIMEOUT_S)
    return num_lines


def _feedback_of(line: HistoryLine, source: str) -> Feedback:
    text = line.text[:MAX_TEXT_CHARS]
    return Feedback(
        event_id=line.id or blake2b(text.encode(), digest_size=16).hexdigest(),
        label=line.label,
        key=line.key,
        source=source,
        time_ms=line.time_ms,
        event_source=line.source,
        text=text,
    )
