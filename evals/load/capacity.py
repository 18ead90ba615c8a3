"""Simulates a day of a load second by second, to find which part of a service falls behind first.

    a day's load --arrivals--> events and labels of each second --work of a part, in order--> its delay in each second
    the load grows, by bisection, until the p99 of a part's delays is beyond its limit --> what that part can take

A part is a queue that is worked off at a constant rate, by as many servers as it has. The delay of a second is the time
that the work takes which waits at its end (Lindley's recursion, over seconds in place of customers).

Rejected: the mean of the day divided by the capacity (the busiest hour decides, and what it leaves behind), and single
events in place of seconds (hundreds of millions a day, for delays below a second that other rows measure).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400
MOST_TIMES = 1e6
"""A part that takes so many times the load has no limit worth naming."""

PRECISION = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """The load of a day: how much there is, and how it is spread."""

    events: float
    labels: float
    peak: float
    """The busiest moment over the mean of the day, 1 or more."""
    seed: int = 0

    def times(self, factor: float) -> "Day":
        return replace(self, events=self.events * factor, labels=self.labels * factor)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServicePart:
    """A part of the service, and the seconds that one of its servers works for what comes."""

    name: str
    event_s: float = 0.0
    label_s: float = 0.0
    share: float = 0.0
    """The share of one server that is taken whatever comes."""
    servers: int = 1
    limit_s: float = 1.0
    """The p99 of the delay beyond which the part has fallen behind."""


def arrivals(day: Day) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the events and the labels of each second, drawn by Poisson's law around the wave of the day."""
    wave_S = _wave(day.peak)
    rng = np.random.default_rng(day.seed)
    return rng.poisson(day.events * wave_S), rng.poisson(day.labels * wave_S)


@cache
def _wave(peak: float) -> NDArray[np.float64]:
    """Returns the share of the day's load that comes in each second: `exp(k cos t)`, which is positive for every peak.

    k is such that the highest value is `peak` times the mean (the density of von Mises).
    """
    cosines_S = np.cos(np.linspace(-math.pi, math.pi, DAY_S, endpoint=False))
    low, high = 0.0, 700.0
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        is_steeper = 1.0 / np.exp(middle * (cosines_S - 1.0)).mean() > peak
        low, high = (low, middle) if is_steeper else (middle, high)
    wave_S = np.exp(low * (cosines_S - 1.0))
    shares_S: NDArray[np.float64] = wave_S / wave_S.sum()
    return shares_S


def delays_s(part: ServicePart, events_S: NDArray[np.int64], labels_S: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns how long the work that waits at the end of each second takes, in seconds.

    >>> one = ServicePart(name="one", event_s=0.5)
    >>> [float(delay) for delay in delays_s(one, np.array([3, 1, 0]), np.zeros(3, np.int64))]
    [0.5, 0.0, 0.0]
    """
    surplus_S = np.cumsum(part.event_s * events_S + part.label_s * labels_S + part.share - part.servers)
    waiting_S = surplus_S - np.minimum(np.minimum.accumulate(surplus_S), 0.0)
    return waiting_S / part.servers


def most_times(part: ServicePart, day: Day) -> float:
    """Returns by how much the day's load can grow until the part falls behind; below 1 it does so as it is."""

    def falls_behind(factor: float) -> bool:
        return bool(np.quantile(delays_s(part, *arrivals(day.times(factor))), 0.99) > part.limit_s)

    low, high = 0.0, 1.0
    while not falls_behind(high):
        low, high = high, 2 * high
        if high > MOST_TIMES:
            return math.inf
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if falls_behind(middle) else (middle, high)
    return low


def by_limit(parts: Iterable[ServicePart], day: Day) -> Mapping[str, float]:
    """Returns by how much the load can grow for each part, by its name; the first to fall behind comes first."""
    found = {part.name: most_times(part, day) for part in parts}
    return dict(sorted(found.items(), key=lambda each: each[1]))
