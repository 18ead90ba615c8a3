"""What became of every event and every label. Pure: what was sent, what the topics hold, what the learner counts.

    Sent (by number) + Found (read back from the topics) + the learner's counts --judge--> Verdict

An event is lost when neither an answer nor a dead letter names it; one that was asked for over HTTP also when its
client never got a reply. A label is unaccounted for when it was acknowledged and is not in its topic, when the learner
did not count a copy that is there, or counted it to no end, or to two.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.chaos.timeline import Span

ENDS = ("matched", "late", "duplicate", "orphan", "parked")
"""The learner's counters of labels that are no refusal: each label is in one of these or of the next."""

REFUSALS = ("refused_", "quarantined_")

LEARNT = ("learnt", "held_back")
"""What became of a matched label where nothing went wrong: it is in the sums, or it is measured on."""

COMMIT_S = 1.0
"""How long an answer may be in its topic before the offset of its event is committed: a quarter of a second, a round
trip, and what a loaded machine adds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What the load knows, by the number of the event. Times are NaN where nothing came."""

    sent_s: Sequence[float]
    answered_s: Sequence[float]
    """When its first answer was seen in the answers topic."""
    replied_s: Sequence[float]
    """When its HTTP reply came."""
    labelled: Sequence[int]
    """Copies of its label that the broker has acknowledged."""
    unlabelled: frozenset[int]
    """Events whose HTTP reply said that they cannot be labelled: their answers are published nowhere."""
    is_http: Callable[[int], bool]

    @property
    def num_labels(self) -> int:
        """Events with a label."""
        return sum(1 for copies in self.labelled if copies)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What the topics hold in the end, by the number of the event."""

    answers: Counter[int]
    dead_letters: Counter[int]
    labels: Counter[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What came of it. `lost`, `unpublished` and `twice` hold numbers of events.

    `unpublished` were replied to over HTTP as if they could be labelled, and are in no topic, so that their labels have
    nothing to meet.
    `unaccounted` are labels by the reason.
    """

    lost: tuple[int, ...]
    unpublished: tuple[int, ...]
    twice: tuple[int, ...]
    num_in_flight: int
    unaccounted: dict[str, int]
    learnt_share: float

    @property
    def num_unaccounted(self) -> int:
        return sum(self.unaccounted.values())


def judge(sent: Sent, found: Found, counts: Mapping[str, int], spans: Iterable[Span]) -> Verdict:
    """The verdict on a run whose learner ended with `counts`, under the faults of `spans`."""
    numbers = range(len(sent.sent_s))
    named = found.answers.keys() | found.dead_letters.keys()
    unreplied = {number for number in numbers if sent.is_http(number) and math.isnan(sent.replied_s[number])}
    absent = {number for number in numbers if number not in named}
    unpublished = {number for number in absent - unreplied if sent.is_http(number)}
    return Verdict(
        lost=tuple(sorted((absent | unreplied) - unpublished)),
        unpublished=tuple(sorted(unpublished - sent.unlabelled)),
        twice=tuple(sorted(number for number, copies in found.answers.items() if copies > 1)),
        num_in_flight=len(in_flight(sent, spans)),
        unaccounted={reason: num for reason, num in _unaccounted(sent, found, counts).items() if num},
        learnt_share=sum(counts.get(name, 0) for name in LEARNT) / max(sent.num_labels, 1),
    )


def in_flight(sent: Sent, spans: Iterable[Span]) -> set[int]:
    """The events that a fault may have had answered twice: sent before it was over, and no answer of theirs was old
    enough before it began that its offset must have been committed."""
    known = list(spans)
    return {
        number
        for number, sent_s in enumerate(sent.sent_s)
        if any(sent_s <= span.ended_s and not sent.answered_s[number] < span.begun_s - COMMIT_S for span in known)
    }


def ends_of(counts: Mapping[str, int]) -> int:
    """How many labels have met an end."""
    refused = sum(num for name, num in counts.items() if name.startswith(REFUSALS))
    return refused + sum(counts.get(name, 0) for name in ENDS)


def _unaccounted(sent: Sent, found: Found, counts: Mapping[str, int]) -> dict[str, int]:
    num_copies = found.labels.total()
    num_counted = counts.get("labels", 0)
    return {
        "acknowledged, not in the topic": sum(
            1 for number, copies in enumerate(sent.labelled) if copies and not found.labels[number]
        ),
        "in the topic, not counted": max(num_copies - num_counted, 0),
        "counted, not in the topic": max(num_counted - num_copies, 0),
        "counted to no end, or to two": abs(num_counted - ends_of(counts)),
        "learnt twice": max(counts.get("matched", 0) - len(found.labels), 0),
        "could not be quarantined": counts.get("quarantine_lost", 0) + counts.get("dead_letters_lost", 0),
    }
