"""The labels that the learner did not believe: found by reason and source, and sent again by who vouches for them.

    quarantine.v1 --> found --> approved (signed with our key) --> feedback.v1 --> the learner, past its guard

The topic is a log: what was released stays in it until it is too old, and releasing it again changes nothing.
"""

from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass

import msgspec

from wire.bus import Bus
from wire.bus.scan import every_record
from wire.receipts import Receipts
from wire.records import Feedback, Quarantined

TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which labels: of these events, of this reason, of this source. Empty: of any.

    `event_source` is the source of their events. A label that names none may be of it; None: of any.
    """

    event_ids: Collection[str] = ()
    reason: str = ""
    source: str = ""
    event_source: str | None = None

    @property
    def is_all(self) -> bool:
        return not (self.event_ids or self.reason or self.source)

    def has(self, label: Quarantined) -> bool:
        return (
            (not self.event_ids or label.event_id in self.event_ids)
            and (not self.reason or label.reason == self.reason)
            and (not self.source or label.source == self.source)
            and (self.event_source is None or label.event_source in (None, self.event_source))
        )

    def said(self, label: Quarantined) -> Feedback:
        """The wanted label, with the source of its event as far as it is known."""
        feedback = label.feedback
        if feedback.event_source is not None:
            return feedback
        return msgspec.structs.replace(feedback, event_source=self.event_source)


def found(bus: Bus, wanted: Wanted) -> Iterator[Quarantined]:
    """The wanted labels, each once: the learner may send one again after a crash."""
    seen: set[tuple[str, str]] = set()
    for label in every_record(bus, [Quarantined]):
        same = (label.message_id, label.label)
        if wanted.has(label) and same not in seen:
            seen.add(same)
            yield label


def release(bus: Bus, receipts: Receipts, wanted: Wanted) -> list[Quarantined]:
    """Send the wanted labels to the learner again, approved; returns them when the broker has all of them.

    What is approved is the label of an event, so a label that was ambiguous needs `wanted.event_source`.
    """
    labels = list(found(bus, wanted))
    failures = list[Exception]()
    with closing(bus.publisher()) as publisher:
        for label in labels:
            approved = receipts.approved(wanted.said(label))
            publisher.send(approved, lambda error: failures.append(error) if error else None)
        publisher.flush(TIMEOUT_S)
    if failures:
        raise failures[0]
    return labels
