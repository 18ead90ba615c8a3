"""When something lived: signs of life on a few tracks, and what follows from them. Pure: times in, times out.

A sign is a piece of work that was begun and came to its end: an event that was sent and answered, a label count that
grew between two looks. Times are seconds on one monotonic clock.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import NamedTuple


class Sign(NamedTuple):
    """Work that was begun and done."""

    begun_s: float
    done_s: float


@dataclass(frozen=True, slots=True)
class Span:
    """A fault: its name, when it began, and when it was over (for a kill, at once)."""

    name: str
    begun_s: float
    ended_s: float


def recovered_s(signs: Sequence[Sign], ended_s: float) -> float:
    """Seconds from the end of a fault to the first work done that was begun after it; infinity while there is none.

    `signs` are in the order in which they were done.

    >>> recovered_s([Sign(2.0, 3.5), Sign(3.0, 4.0), Sign(0.5, 9.0)], 1.0)
    2.5
    """
    after = takewhile(lambda sign: sign.done_s >= ended_s, reversed(signs))
    return min((sign.done_s for sign in after if sign.begun_s >= ended_s), default=math.inf) - ended_s


def recovery_s(tracks: Mapping[str, Sequence[Sign]], ended_s: float) -> float:
    """Seconds until every track lives again."""
    return max(recovered_s(signs, ended_s) for signs in tracks.values())


def longest_silence_s(signs: Iterable[Sign], begin_s: float, end_s: float) -> float:
    """The longest time between two pieces of work done, the borders of the run included.

    >>> longest_silence_s([Sign(0.0, 1.0), Sign(1.0, 4.0)], 0.0, 6.0)
    3.0
    """
    moments = [begin_s, *sorted(sign.done_s for sign in signs if begin_s <= sign.done_s <= end_s), end_s]
    return max(after - before for before, after in pairwise(moments))


def nearest_rank(values: Iterable[float], rank: int) -> float | None:
    """A percentile of values that may be infinite; None where there are none.

    >>> nearest_rank([1.0, 2.0, math.inf], 50)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else None
