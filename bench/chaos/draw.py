"""Draws the faults and their order from a seed: every kind comes once before one comes again. Pure."""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from bench.chaos.faults import Fault, FaultKind, Together

TOGETHER = 0.1
"""The share of the kills that come with a second one."""


def draw_faults(kinds: Sequence[FaultKind], *, kills: int, others: int, seed: int) -> list[Fault]:
    """Draws as many faults as were asked for, in a random order. The same seed draws the same faults."""
    rng = random.Random(f"chaos/{seed}")
    faults = _draw_kills(_cycle([kind for kind in kinds if kind.is_kill], rng), kills, rng)
    other_kinds = _cycle([kind for kind in kinds if not kind.is_kill], rng)
    for kind in islice(other_kinds, others):
        faults.append(kind.make(rng))
    rng.shuffle(faults)
    return faults


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
