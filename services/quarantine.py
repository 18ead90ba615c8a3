"""Quarantined labels: selected by id, reason and source, and released by an operator who vouches for them.

    quarantine.v1 --> quarantined_labels --> approved (signed with our key) --> feedback.v1 --> the learner

An approval makes a label believed, whoever sent it. So a label is named by an id of its own, which says who labelled
which event how and when; a label that nobody has proved is released only if its reason is named; and of several labels
of one event none is sent, since the last one would replace the others.

The topic is a log: a released label stays in it until its retention ends. Releases are idempotent.

Rejected: releasing what lies there for an event (whoever may send labels adds one of his own and waits).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from rollout.plans import NotPossible
from wire.bus import Bus, every_record
from wire.receipts import FORGED, MISSING, Receipts
from wire.records import Feedback, Quarantined

TIMEOUT_S = 30.0

ID_CHARS: Final = 20
"""Hexadecimal digits of a label's id: 80 bits, so that nobody finds a second label with the id of a first one."""

UNPROVEN: Final = (MISSING, FORGED)
"""Reasons of labels that anybody may have sent who can send labels at all."""


def id_of(label: Quarantined) -> str:
    """Returns the id of a quarantined label: of its event, its source, its reason, what it says, and its time."""
    said = msgspec.json.encode((label.message_id, label.feedback.target, label.time_ms))
    return sha256(said).hexdigest()[:ID_CHARS]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFilter:
    """Selects labels by their ids, their events, their reason and their source. An empty field matches all.

    `event_source` is the source of their events (None matches all). A label that names no source matches it, too.
    """

    ids: Collection[str] = ()
    event_ids: Collection[str] = ()
    reason: str = ""
    source: str = ""
    event_source: str | None = None

    @property
    def is_all(self) -> bool:
        return not (self.ids or self.event_ids or self.reason or self.source)

    def matches(self, label: Quarantined) -> bool:
        return (
            (not self.event_ids or label.event_id in self.event_ids)
            and (not self.ids or id_of(label) in self.ids)
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
    seen: set[str] = set()
    for label in every_record(bus, [Quarantined]):
        identity = id_of(label)
        if chosen.matches(label) and identity not in seen:
            seen.add(identity)
            yield label


@dataclass(frozen=True, slots=True)
class Release:
    """The labels that were sent to the learner again, and the number of those that were not, by their reason."""

    sent: tuple[Quarantined, ...]
    unproven: Mapping[str, int]

    def lines(self) -> Iterator[str]:
        """Yields what a person reads of it."""
        yield f"{len(self.sent)} sent to the learner again"
        for reason, num in self.unproven.items():
            yield f"{num} not sent: anybody may have sent what is {reason}; look at them, and add --reason {reason}"


def release(bus: Bus, receipts: Receipts, chosen: LabelFilter) -> Release:
    """Sends the selected labels to the learner again, approved; returns when the broker has all of them.

    A label of a reason in UNPROVEN is sent only if `chosen` names that reason. An approval is for the label of one
    event, so an ambiguous label needs `chosen.event_source`. Raises NotPossible, before anything is sent, if an id is
    unknown, or if several of the labels are of one event.
    """
    found = list(quarantined_labels(bus, chosen))
    unknown = set(chosen.ids) - {id_of(label) for label in found}
    if unknown:
        raise NotPossible(f"no such label lies in quarantine: {', '.join(sorted(unknown))}; `list` shows their ids")
    sent = [label for label in found if label.reason not in UNPROVEN or label.reason == chosen.reason]
    _check_one_an_event(sent, chosen)
    with closing(bus.publisher()) as publisher:
        publisher.send_all((receipts.approved(chosen.feedback_of(label)) for label in sent), TIMEOUT_S)
    return Release(tuple(sent), Counter(label.reason for label in found if label not in sent))


def _check_one_an_event(labels: Iterable[Quarantined], chosen: LabelFilter) -> None:
    """Raises NotPossible if several labels are, or may be, of one event: without a source it may be any of its id."""
    by_event: defaultdict[tuple[str, str], list[Quarantined]] = defaultdict(list)
    for label in labels:
        by_event[label.task, label.event_id].append(label)
    for (_, event_id), alike in by_event.items():
        sources = {chosen.feedback_of(label).event_source for label in alike}
        if len(alike) > len(sources - {None}) and len(alike) > 1:
            ids = ", ".join(id_of(label) for label in alike)
            raise NotPossible(f"{len(alike)} labels are of the event {event_id!r}: {ids}. Nothing was sent; name one")
