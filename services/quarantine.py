"""Quarantined labels: selected by reason and source, and released by an operator who vouches for them.

    quarantine.v1 --> quarantined_labels --> approved (signed with our key) --> feedback.v1 --> the learner

The topic is a log: a released label stays in it until its retention ends. Releases are idempotent.
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
class LabelFilter:
    """Selects labels by their events, their reason and their source. An empty field matches all.

    `event_source` is the source of their events (None matches all). A label that names no source matches it, too.
    """

    event_ids: Collection[str] = ()
    reason: str = ""
    source: str = ""
    event_source: str | None = None

    @property
    def is_all(self) -> bool:
        return not (self.event_ids or self.reason or self.source)

    def matches(self, label: Quarantined) -> bool:
        return (
            (not self.event_ids or label.event_id in self.event_ids)
            and (not self.reason or label.reason == self.reason)
            and (not self.source or label.source == self.source)
            and (self.event_source is None or label.event_source in (None, self.event_source))
        )

    def feedback_of(self, label: Quarantined) -> Feedback:
        """Returns the selected label as feedback, with the source of its event where that is known."""
        feedback = label.feedback
        if feedback.event_source is not None:
            return feedback
        return msgspec.structs.replace(feedback, event_source=self.event_source)


def quarantined_labels(bus: Bus, chosen: LabelFilter) -> Iterator[Quarantined]:
    """Yields the selected labels, each once, though the learner may send one again after a crash."""
    seen: set[tuple[str, str]] = set()
    for label in every_record(bus, [Quarantined]):
        identity = (label.message_id, label.feedback.target)
        if chosen.matches(label) and identity not in seen:
            seen.add(identity)
            yield label


def release(bus: Bus, receipts: Receipts, chosen: LabelFilter) -> list[Quarantined]:
    """Sends the selected labels to the learner again, approved; returns them when the broker has all of them.

    An approval is for the label of one event, so an ambiguous label needs `chosen.event_source`.
    """
    labels = list(quarantined_labels(bus, chosen))
    with closing(bus.publisher()) as publisher:
        publisher.send_all((receipts.approved(chosen.feedback_of(label)) for label in labels), TIMEOUT_S)
    return labels
