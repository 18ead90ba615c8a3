"""Finds lost and duplicated events and labels, and measures recovery and silence. Pure functions.

    Sent (by number) + TopicCounts (read back from the topics) + the learner's counters --judge--> Verdict
    heartbeats on a few tracks, faults --recovery_s, revision_regressions, longest_silence_s--> seconds

An event is lost if

- neither an answer nor a dead-letter record names it, or
- it was sent over HTTP and its client never got a reply.

A label is unaccounted for if

- the broker acknowledged it, but it is not in its topic,
- the learner did not count a copy that is in the topic, or
- the learner counted it under no outcome, or under two.

A power cut takes the unsynced tails of files. A record in such a tail may be lost; any other loss is an error.

A heartbeat is a piece of work that was begun and done: an event that was sent and answered, or a label count that grew
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
    """A piece of work: when it was begun, and when it was done."""

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
    """Returns the seconds from the end of a fault to the first heartbeat whose work was begun after that end.

    Returns infinity if there is no such heartbeat. `heartbeats` are in the order of `done_s`.

    >>> recovered_s([Heartbeat(2.0, 3.5), Heartbeat(3.0, 4.0), Heartbeat(0.5, 9.0)], 1.0)
    2.5
    """
    after = takewhile(lambda beat: beat.done_s >= ended_s, reversed(heartbeats))
    return min((beat.done_s for beat in after if beat.begun_s >= ended_s), default=math.inf) - ended_s


def recovery_s(tracks: Mapping[str, Sequence[Heartbeat]], ended_s: float) -> float:
    """Returns the seconds until every track has a heartbeat again."""
    return max(recovered_s(heartbeats, ended_s) for heartbeats in tracks.values())


def revision_regressions(replies: Iterable[tuple[Heartbeat, int]], losses_s: Sequence[float]) -> list[float]:
    """Returns when requests were begun whose reply names an older plan than a reply that had come before.

    `replies` pairs each reply with its plan's revision. After each moment of `losses_s`, at which the store lost plans,
    revisions may restart once. A replica gives old revisions until it reads the new ones.

    >>> revision_regressions([(Heartbeat(0.0, 1.0), 7), (Heartbeat(0.5, 1.5), 6), (Heartbeat(2.0, 3.0), 6)], [])
    [2.0]
    """
    unused_losses_s = sorted(losses_s, reverse=True)
    restarted_s = -math.inf
    # The highest revision so far, by the time at which its reply came.
    seen: list[tuple[float, int]] = []
    regressions_s: list[float] = []
    for beat, revision in sorted(replies, key=lambda each: each[0].done_s):
        # The reply to a request from before the restart may have an old or a new revision.
        if beat.begun_s < restarted_s:
            continue
        place = bisect_left(seen, beat.begun_s, key=lambda each: each[0]) - 1
        if place >= 0 and revision < seen[place][1]:
            past_losses_s = [loss_s for loss_s in unused_losses_s if loss_s <= beat.done_s]
            if past_losses_s:
                # The earliest losses stand at the end of the list.
                del unused_losses_s[-len(past_losses_s) :]
                restarted_s = beat.done_s
                seen = []
            else:
                regressions_s.append(beat.begun_s)
        if not seen or revision >= seen[-1][1]:
            seen.append((beat.done_s, revision))
    return regressions_s


def longest_silence_s(heartbeats: Iterable[Heartbeat], begin_s: float, end_s: float) -> float:
    """Returns the longest time between two heartbeats; the start and the end of the run count as heartbeats.

    >>> longest_silence_s([Heartbeat(0.0, 1.0), Heartbeat(1.0, 4.0)], 0.0, 6.0)
    3.0
    """
    done_s = sorted(beat.done_s for beat in heartbeats)
    moments = [begin_s, *(moment_s for moment_s in done_s if begin_s <= moment_s <= end_s), end_s]
    return max(after - before for before, after in pairwise(moments))


OUTCOMES = ("matched", "late", "duplicate", "orphan", "parked")
"""The learner's counters of labels that are not refused. Each label is in exactly one of these, or in one of REFUSALS.
"""

REFUSALS = ("refused_", "quarantined_")
"""The prefixes of the learner's counters of labels that are refused."""

LEARNT = ("learnt", "holdout")
"""The counters of matched labels that were used: a label is in the sums, or in the holdout."""

COMMIT_S = 1.0
"""The longest time from an answer in its topic to the commit of its event's offset: a quarter of a second, a round
trip, and a margin for a loaded machine."""

REBALANCE_S = 2.0
"""The longest time until a consumer group with a new member has assigned its partitions: the members notice at their
next heartbeat, at most half a second later, and there is a margin for a loaded machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """The load's records, by the number of the event. A time is NaN if there was no answer or reply."""

    sent_s: Sequence[float]
    answered_s: Sequence[float]
    """When the event's first answer was seen in the answers topic."""
    replied_s: Sequence[float]
    """When the event's HTTP reply came."""
    labelled: Sequence[int]
    """The number of copies of the event's label that the broker has acknowledged."""
    unlabelled: frozenset[int]
    """Events whose HTTP reply said that they cannot be labelled, because their answers are not published."""
    is_http: Callable[[int], bool]

    @property
    def num_labels(self) -> int:
        """The number of events with a label."""
        return sum(1 for copies in self.labelled if copies)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicCounts:
    """The number of records in the topics at the end, by the number of the event."""

    answers: Counter[int]
    dead_letters: Counter[int]
    labels: Counter[int]
    num_other_labels: int = 0
    """The number of labels that other clients have sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The result of a run. `lost`, `unpublished`, `twice` and `twice_elsewhere` hold numbers of events."""

    lost: tuple[int, ...]
    num_lost_with_tails: int
    """The number of events that are not in `lost` because their own record or their answer's record was in a tail."""
    unpublished: tuple[int, ...]
    """Events whose HTTP reply allowed a label, but whose answer is not in the topic, so that a label finds no match."""
    twice: tuple[int, ...]
    """Events with more than one answer."""
    twice_elsewhere: tuple[int, ...]
    """The events of `twice` that were not in flight between any fault and its recovery."""
    num_in_flight: int
    unaccounted: dict[str, int]
    """Reason -> the number of labels that are unaccounted for."""
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
    """Judges a run. `counts` are the learner's last counters, `spans` the faults, and `tails` the lost tails."""
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
    """Returns the events that may have two answers because of a fault. Both conditions hold for such an event:

    - It was sent before all tracks had recovered from the fault and the group had its partitions again. Each rebalance
      delivers events again that are being computed.
    - It was not answered so long before the fault that its offset must have been committed.
    """
    faults = list(spans)
    numbers: set[int] = set()
    for number, (sent_s, answered_s) in enumerate(zip(sent.sent_s, sent.answered_s, strict=True)):
        for fault in faults:
            is_sent_early = sent_s <= fault.recovered_s + REBALANCE_S
            # An event without an answer has the time NaN, and is in flight, too.
            is_committed = answered_s < fault.begun_s - COMMIT_S
            if is_sent_early and not is_committed:
                numbers.add(number)
                break
    return numbers


def count_outcomes(counts: Mapping[str, int]) -> int:
    """Counts the labels that the learner has counted under an outcome."""
    refused = sum(num for name, num in counts.items() if name.startswith(REFUSALS))
    return refused + sum(counts.get(name, 0) for name in OUTCOMES)


def _learnt_share(sent: Sent, counts: Mapping[str, int], tails: LostTails) -> float:
    """Returns the fraction of labels that were learnt. A label counts as learnt if a tail took it or its answer."""
    num_excused = sum(1 for number in tails.numbers if sent.labelled[number])
    num_missing = sent.num_labels - sum(counts.get(name, 0) for name in LEARNT)
    return 1.0 - max(num_missing - num_excused, 0) / max(sent.num_labels, 1)


def _unaccounted(sent: Sent, topics: TopicCounts, counts: Mapping[str, int], tails: LostTails) -> dict[str, int]:
    """Counts the unaccounted labels by reason. The learner may or may not have counted a label in a lost tail."""
    num_copies = topics.labels.total() + topics.num_other_labels
    num_counted = counts.get("labels", 0)
    there = topics.labels.keys() | tails.labels.keys()
    num_missing = sum(1 for number, copies in enumerate(sent.labelled) if copies and number not in there)
    return {
        "acknowledged, not in the topic": num_missing,
        "in the topic, not counted": max(num_copies - num_counted, 0),
        "counted, not in the topic": max(num_counted - num_copies - tails.labels.total(), 0),
        "counted to no end, or to two": abs(num_counted - count_outcomes(counts)),
        "learnt twice": max(counts.get("matched", 0) - len(there) - topics.num_other_labels, 0),
        "could not be quarantined": counts.get("letters_lost", 0),
    }
