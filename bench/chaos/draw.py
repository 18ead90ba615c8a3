"""Which faults come, and in which order: drawn from a seed, every kind once before one comes again. Pure."""

import random
from collections.abc import Iterator, Sequence

from bench.chaos.faults import Fault, FaultKind, Together

TOGETHER = 0.1
"""Share of the kills that come with a second one."""


def drawn(kinds: Sequence[FaultKind], *, kills: int, others: int, seed: int) -> list[Fault]:
    """As many faults as were asked for, in a random order. The same seed draws the same."""
    rng = random.Random(f"chaos/{seed}")
    killing = _deck([kind for kind in kinds if kind.is_kill], rng)
    other = _deck([kind for kind in kinds if not kind.is_kill], rng)
    faults: list[Fault] = []
    while (left := kills - sum(fault.num_kills for fault in faults)) > 0 and (kind := next(killing, None)):
        faults.append(kind.make(rng))
        if left > 1 and rng.random() < TOGETHER and (second := next(killing)).name != kind.name:
            faults[-1] = Together((faults[-1], second.make(rng)))
    faults += [kind.make(rng) for _, kind in zip(range(others), other, strict=False)]
    rng.shuffle(faults)
    return faults


def _deck(kinds: Sequence[FaultKind], rng: random.Random) -> Iterator[FaultKind]:
    """The kinds, shuffled, again and again; nothing where there is none."""
    while kinds:
        yield from rng.sample(kinds, len(kinds))
