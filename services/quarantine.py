"""The labels that the learner did not believe: found by reason and source, and sent again by who vouches for them.

    quarantine.v1 --> found --> approved (signed with our key) --> feedback.v1 --> the learner, past its guard

The topic is a log: what was released stays in it until it is too old, and releasing it again changes nothing.
"""

from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass

from services.topics import every_record
from wire.bus import Bus
from wire.receipts import Receipts
from wire.records import Quarantined

TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which labels: of these events, of this reason, of this source. Empty: of any."""

    event_ids: Collection[str] = ()
    reason: str = ""
    source: str = ""

    @property
    def is_all(self) -> bool:
        return not (self.event_ids or self.reason or self.source)

    def has(self, label: Quarantined) -> bool:
        return (
            (not self.event_ids or label.event_id in self.event_ids)
            and (not self.reason or label.reason == self.reason)
            and (not self.source or label.source == self.source)
        )


def found(bus: Bus, wanted: Wanted) -> Iterator[Quarantined]:
    """The wanted labels, each once: the learner may send one again after a crash."""
    seen: set[tuple[str, str]] = set()
    for label in every_record(bus, [Quarantined]):
        same = (label.message_id, label.label)
        if wanted.has(label) and same not in seen:
            seen.add(same)
            yield label


def release(bus: Bus, receipts: Receipts, wanted: Wanted) -> list[Quarantined]:
    """Send the wanted labels to the learner again, approved; returns them when the broker has all of them."""
    labels, failures = list(found(bus, wanted)), list[Exception]()
    with closing(bus.publisher()) as publisher:
        for label in labels:
            approved = receipts.approved(label.feedback)
            publisher.send(approved, lambda error: failures.append(error) if error else None)
        publisher.flush(TIMEOUT_S)
    if failures:
        raise failures[0]
    return labels
