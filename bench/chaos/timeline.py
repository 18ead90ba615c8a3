"""Computes recovery and silence from heartbeats on a few tracks. Pure: times in, times out.

A heartbeat is a piece of work that was begun and done: an event that was sent and answered, a label count that grew
between two polls. Times are seconds on one monotonic clock.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import NamedTuple


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


def nearest_rank(values: Iterable[float], rank: int) -> float | None:
    """Returns a nearest-rank percentile of values that may be infinite; None where there are no values.

    >>> nearest_rank([1.0, 2.0, math.inf], 50)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else None
