"""Draws the faults from a seed, injects them one after the other, and waits for the recovery from each.

    seed --draw_faults--> fault, heal, recovered, fault, ...
    not recovered: everything is restarted, as an operator would, and counted as stuck

The faults are spread evenly over the events. Every kind is drawn once before any kind is drawn again.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import get_args

from bench.chaos.faults import Family, Fault, FaultKind, combine
from bench.chaos.judge import Interruption
from bench.chaos.running import POLL_INTERVAL_S, Running
from bench.chaos.size import SceneSize

TOGETHER = 0.1
"""The fraction of kills that come together with a second kill."""


def draw_faults(kinds: Sequence[FaultKind], *, kills: int, cuts: int, others: int, seed: int) -> list[Fault]:
    """Draws the given numbers of faults, in random order. The same seed draws the same faults."""
    rng = random.Random(f"chaos/{seed}")
    faults = _draw_kills(_cycle(_in_family(kinds, "kill"), rng), kills, rng)
    families: tuple[tuple[Family, int], ...] = (("cut", cuts), ("other", others))
    for family, num in families:
        for kind in islice(_cycle(_in_family(kinds, family), rng), num):
            faults.append(kind.make(rng))
    rng.shuffle(faults)
    return faults


def _in_family(kinds: Sequence[FaultKind], family: Family) -> list[FaultKind]:
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
                fault = combine((fault, second.make(rng)))
                left -= 1
        faults.append(fault)
    return faults


def _cycle(kinds: Sequence[FaultKind], rng: random.Random) -> Iterator[FaultKind]:
    """Yields all kinds repeatedly, shuffled each time. Yields nothing if there are no kinds."""
    while kinds:
        yield from rng.sample(kinds, len(kinds))


Say = Callable[[str], None]


@dataclass(slots=True)
class FaultLog:
    """The injected faults and, for each family of faults, the recovery times. None: it did not recover."""

    spans: list[Interruption] = field(default_factory=list)
    recoveries_s: dict[Family, list[float | None]] = field(
        default_factory=lambda: {family: [] for family in get_args(Family)}
    )
    stuck: int = 0


class Injector:
    """Injects faults into a running scene. `log` records the faults and the recoveries."""

    def __init__(self, running: Running, size: SceneSize, say: Say) -> None:
        self._running = running
        self._size = size
        self._say = say
        self.log = FaultLog()

    def inject_all(self, faults: Sequence[Fault]) -> None:
        """Injects all faults. Ends early if the scene does not recover even after a restart.

        The service has recovered when one replica answers. The next fault waits until all replicas do, because a
        kill of the only one is an outage of the service, not of a replica.
        """
        begun_s = time.monotonic()
        every_s = self._size.events / self._size.rate / max(len(faults), 1)
        for place, fault in enumerate(faults):
            if not self._running.wait(self._running.scene.is_whole, self._size.stuck_s):
                self._say("not all replicas answer before the next fault")
            self._running.wait_until(begun_s + place * every_s)
            self.log.spans.append(self._inject(fault))
            if self._recovers(fault):
                continue
            self.log.stuck += 1
            self._say("restarting everything")
            self._running.scene.restart()
            if not self._recovers(fault):
                break

    def _recovers(self, fault: Fault) -> bool:
        """Waits until the killed processes are back, and then until every track has a heartbeat.

        Returns False if either takes longer than `stuck_s`.
        """
        ledger = self._running.ledger
        ended_s = self.log.spans[-1].ended_s
        recoveries_s = self.log.recoveries_s[fault.family]
        if self._running.wait(fault.is_over, self._size.stuck_s):
            back_s = max(ended_s, time.monotonic() - POLL_INTERVAL_S)
            if self._running.wait(lambda: ledger.recovery_s(back_s) < math.inf, self._size.stuck_s):
                recovery_s = back_s - ended_s + ledger.recovery_s(back_s)
                recoveries_s.append(recovery_s)
                self.log.spans[-1] = replace(self.log.spans[-1], recovered_s=ended_s + recovery_s)
                self._say(f"recovered after {recovery_s:.1f} s, {ledger.last_recovered(back_s)} last")
                return True
        recoveries_s.append(None)
        silent = ", ".join(ledger.silent(ended_s)) or "the killed processes"
        self._say(f"NOT RECOVERED after {self._size.stuck_s:g} s: silent: {silent}")
        return False

    def _inject(self, fault: Fault) -> Interruption:
        begun_s = time.monotonic()
        self._say(f"{fault.name}: {fault.inject() or 'begins'}")
        if fault.is_power_cut:
            lost = self._running.scene.lost
            self._running.ledger.record_lost(lost.numbers)
            # Events that were answered after the last sync may be answered again, so the fault begins at that sync.
            begun_s -= max(time.time() - (time.monotonic() - begun_s) - lost.synced_s, 0.0)
        else:
            self._running.wait_until(begun_s + fault.lasts_s)
        fault.heal()
        if fault.lasts_s:
            self._say(f"{fault.name}: over")
        return Interruption(fault.name, begun_s, time.monotonic())
