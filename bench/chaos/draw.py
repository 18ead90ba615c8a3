"""Draws the faults and their order from a seed: every kind comes once before one comes again. Pure."""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from bench.chaos.faults import Family, Fault, FaultKind, Together

TOGETHER = 0.1
"""The share of the kills that come with a second one."""


def draw_faults(kinds: Sequence[FaultKind], *, kills: int, cuts: int, others: int, seed: int) -> list[Fault]:
    """Draws as many faults as were asked for, in a random order. The same seed draws the same faults."""
    rng = random.Random(f"chaos/{seed}")
    faults = _draw_kills(_cycle(_of(kinds, "kill"), rng), kills, rng)
    families: tuple[tuple[Family, int], ...] = (("cut", cuts), ("other", others))
    for family, num in families:
        for kind in islice(_cycle(_of(kinds, family), rng), num):
            faults.append(kind.make(rng))
    rng.shuffle(faults)
    return faults


def _of(kinds: Sequence[FaultKind], family: Family) -> list[FaultKind]:
    return [kind for kind in kinds if kind.family == family]


def _draw_kills(kinds: Iterator[FaultKind], num_kills: int, rng: random.Random) -> list[Fault]:
    faults: list[Fault] = []
    left = num_kills
    while left > 0 and (kind := next(kinds, None)):
        fault = kind.make(rng)
        left -= 1
        if left > 0 and rng.random() < TOGETHER:
            second = next(kinds)
            if second.name != kind.name:
                fault = Together((fault, second.make(rng)))
                left -= 1
        faults.append(fault)
    return faults


def _cycle(kinds: Sequence[FaultKind], rng: random.Random) -> Iterator[FaultKind]:
    """Yields the kinds again and again, shuffled each time; nothing where there are none."""
    while kinds:
        yield from rng.sample(kinds, len(kinds))
