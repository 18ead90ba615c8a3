"""Decides what became of every event and label, and how long each part was silent. Pure.

    Sent (by number) + TopicCounts (read back from the topics) + the learner's counters --judge--> Verdict
    heartbeats on a few tracks, faults --recovery_s, gone_back, longest_silence_s--> seconds

An event is lost if neither an answer nor a dead letter names it; one that was asked for over HTTP also if its client
never got a reply. A label is unaccounted for if it was acknowledged and is not in its topic, if the learner did not
count a copy that is there, or if the learner counted it under no end or under two.

Power cuts take tails: what lay in one is lost with the tail, and is no fault by itself. Everything else is.

A heartbeat is a piece of work that was begun and done: an event that was sent and answered, a label count that grew
between two polls. Times are seconds on one monotonic clock.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import NamedTuple

from bench.chaos.synced import LostTails


class Heartbeat(NamedTuple):
    """Work that was begun and done."""

    begun_s: float
    done_s: float


@dataclass(frozen=True, slots=True)
class Interruption:
    """A fault: its name, when it began, and when it was over (for a kill, at once)."""

    name: str
    begun_s: float
    ended_s: float
    recovered_s: float = math.inf
    """When every track had a heartbeat again."""


def recovered_s(heartbeats: Sequence[Heartbeat], ended_s: float) -> float:
    """Returns the seconds from the end of a fault to the first work done that was begun after it; infinity without.

    `heartbeats` are in the order of `done_s`.

    >>> recovered_s([Heartbeat(2.0, 3.5), Heartbeat(3.0, 4.0), Heartbeat(0.5, 9.0)], 1.0)
    2.5
    """
    after = takewhile(lambda beat: beat.done_s >= ended_s, reversed(heartbeats))
    return min((beat.done_s for beat in after if beat.begun_s >= ended_s), default=math.inf) - ended_s


def recovery_s(tracks: Mapping[str, Sequence[Heartbeat]], ended_s: float) -> float:
    """Returns the seconds until every track has a heartbeat again."""
    return max(recovered_s(heartbeats, ended_s) for heartbeats in tracks.values())


def gone_back(replies: Iterable[tuple[Heartbeat, int]], losses_s: Sequence[float]) -> list[float]:
    """Returns when replies were begun whose number is below that of a reply that was there before.

    After each of `losses_s` numbers may begin anew once: the replica gives the old ones until it reads the new ones.

    >>> gone_back([(Heartbeat(0.0, 1.0), 7), (Heartbeat(0.5, 1.5), 6), (Heartbeat(2.0, 3.0), 6)], [])
    [2.0]
    """
    unused_s = sorted(losses_s, reverse=True)
    anew_s = -math.inf
    seen: list[tuple[float, int]] = []
    back: list[float] = []
    for beat, number in sorted(replies, key=lambda each: each[0].done_s):
        if beat.begun_s < anew_s:  # it may have either numbering
            continue
        place = bisect_left(seen, beat.begun_s, key=lambda each: each[0]) - 1
        if place >= 0 and number < seen[place][1]:
            past_s = [loss_s for loss_s in unused_s if loss_s <= beat.done_s]
            if past_s:
                del unused_s[-len(past_s) :]
                anew_s, seen = beat.done_s, []
            else:
                back.append(beat.begun_s)
        if not seen or number >= seen[-1][1]:
            seen.append((beat.done_s, number))
    return back


def longest_silence_s(heartbeats: Iterable[Heartbeat], begin_s: float, end_s: float) -> float:
    """Returns the longest time between two heartbeats; the start and the end of the run count as heartbeats.

    >>> longest_silence_s([Heartbeat(0.0, 1.0), Heartbeat(1.0, 4.0)], 0.0, 6.0)
    3.0
    """
    done_s = sorted(beat.done_s for beat in heartbeats)
    moments = [begin_s, *(moment_s for moment_s in done_s if begin_s <= moment_s <= end_s), end_s]
    return max(after - before for before, after in pairwise(moments))


ENDS = ("matched", "late", "duplicate", "orphan", "parked")
"""The learner's counters of labels that are not refused. Each label is in one of these or in one of the next."""

REFUSALS = ("refused_", "quarantined_")
"""The prefixes of the learner's counters of labels that are refused."""

LEARNT = ("learnt", "holdout")
"""The counters of a matched label where nothing went wrong: it is in the sums, or in the holdout."""

COMMIT_S = 1.0
"""The longest time from an answer in its topic to the commit of its event's offset: a quarter of a second, a round
trip, and what a loaded machine adds."""

REBALANCE_S = 2.0
"""The longest time until a group has shared out its partitions among replicas of which one is new: its members notice
at their next heartbeat, half a second later at most, and what a loaded machine adds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What the load knows, by the number of the event. A time is NaN where nothing came."""

    sent_s: Sequence[float]
    answered_s: Sequence[float]
    """When its first answer was seen in the answers topic."""
    replied_s: Sequence[float]
    """When its HTTP reply came."""
    labelled: Sequence[int]
    """The copies of its label that the broker has acknowledged."""
    unlabelled: frozenset[int]
    """Events whose HTTP reply said that they cannot be labelled: their answers are published nowhere."""
    is_http: Callable[[int], bool]

    @property
    def num_labels(self) -> int:
        """The number of events with a label."""
        return sum(1 for copies in self.labelled if copies)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicCounts:
    """What the topics hold in the end, by the number of the event."""

    answers: Counter[int]
    dead_letters: Counter[int]
    labels: Counter[int]
    num_other_labels: int = 0
    """Those that others have sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The result of a run. `lost`, `unpublished`, `twice` and `twice_elsewhere` hold numbers of events."""

    lost: tuple[int, ...]
    num_lost_with_tails: int
    """Events that are not among them, since their record or that of their answer lay in a tail."""
    unpublished: tuple[int, ...]
    """Events that got an HTTP reply as if they could be labelled, but whose answer is in no topic: a label would find
    no match."""
    twice: tuple[int, ...]
    """Events with more than one answer."""
    twice_elsewhere: tuple[int, ...]
    """Those of them that were not in flight from any fault to the recovery from it."""
    num_in_flight: int
    unaccounted: dict[str, int]
    """The number of labels that are unaccounted for, by the reason."""
    learnt_share: float

    @property
    def num_unaccounted(self) -> int:
        return sum(self.unaccounted.values())


def judge(
    sent: Sent,
    topics: TopicCounts,
    counts: Mapping[str, int],
    spans: Iterable[Interruption],
    tails: LostTails,
) -> Verdict:
    """Judges a run whose learner ended with `counts`, under the faults of `spans`, of which some took `tails`."""
    numbers = range(len(sent.sent_s))
    named = topics.answers.keys() | topics.dead_letters.keys()
    unreplied = {number for number in numbers if sent.is_http(number) and math.isnan(sent.replied_s[number])}
    absent = {number for number in numbers if number not in named}
    unpublished = {number for number in absent - unreplied if sent.is_http(number)}
    twice = {number for number, copies in topics.answers.items() if copies > 1}
    at_a_fault = in_flight(sent, spans)
    in_tails = tails.events.keys() | tails.answers.keys()
    lost = (absent | unreplied) - unpublished
    unpublished -= sent.unlabelled
    return Verdict(
        lost=tuple(sorted(lost - in_tails)),
        num_lost_with_tails=len((lost | unpublished) & in_tails),
        unpublished=tuple(sorted(unpublished - in_tails)),
        twice=tuple(sorted(twice)),
        twice_elsewhere=tuple(sorted(twice - at_a_fault)),
        num_in_flight=len(at_a_fault),
        unaccounted={reason: num for reason, num in _unaccounted(sent, topics, counts, tails).items() if num},
        learnt_share=_learnt_share(sent, counts, tails),
    )


def in_flight(sent: Sent, spans: Iterable[Interruption]) -> set[int]:
    """Returns the events that a fault may have caused to be answered twice.

    Such an event was sent before all had recovered from the fault and the group had its partitions again, since each
    rebalance delivers again what is being computed; and it was not answered so long before the fault that its offset
    must have been committed.
    """
    known = list(spans)
    numbers: set[int] = set()
    for number, (sent_s, answered_s) in enumerate(zip(sent.sent_s, sent.answered_s, strict=True)):
        if any(sent_s <= span.recovered_s + REBALANCE_S and not answered_s < span.begun_s - COMMIT_S for span in known):
            numbers.add(number)
    return numbers


def ends_of(counts: Mapping[str, int]) -> int:
    """Counts the labels that have met one of the ends."""
    refused = sum(num for name, num in counts.items() if name.startswith(REFUSALS))
    return refused + sum(counts.get(name, 0) for name in ENDS)


def _learnt_share(sent: Sent, counts: Mapping[str, int], tails: LostTails) -> float:
    """Returns the share of the labels that were learnt; one whose record or answer lay in a tail need not be."""
    num_excused = sum(1 for number in tails.numbers if sent.labelled[number])
    num_missing = sent.num_labels - sum(counts.get(name, 0) for name in LEARNT)
    return 1.0 - max(num_missing - num_excused, 0) / max(sent.num_labels, 1)


def _unaccounted(sent: Sent, topics: TopicCounts, counts: Mapping[str, int], tails: LostTails) -> dict[str, int]:
    """A label in a lost tail may have been counted, and need not have been."""
    num_copies = topics.labels.total() + topics.num_other_labels
    num_counted = counts.get("labels", 0)
    there = topics.labels.keys() | tails.labels.keys()
    num_missing = sum(1 for number, copies in enumerate(sent.labelled) if copies and number not in there)
    return {
        "acknowledged, not in the topic": num_missing,
        "in the topic, not counted": max(num_copies - num_counted, 0),
        "counted, not in the topic": max(num_counted - num_copies - tails.labels.total(), 0),
        "counted to no end, or to two": abs(num_counted - ends_of(counts)),
        "learnt twice": max(counts.get("matched", 0) - len(there) - topics.num_other_labels, 0),
        "could not be quarantined": counts.get("letters_lost", 0),
    }
