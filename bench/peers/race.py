"""Times encoders on the same workload, in turns, and prints a summary of races.

A race has two parts. In the heats all encoders take turns, which finds the two fastest peers and the two fastest peers
of equal accuracy. The final times these against ours, alternating: ours, peer, ours, peer ... A figure is the median of
its turns.

On one thread the time is processor time, which other processes do not affect; on more threads it is wall-clock time.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from rich.console import Group
from rich.table import Table

from bench.harness.process import PeerFailed
from bench.peers.workloads import Workload

HEATS = 1
ROUNDS = 5
FINALISTS = 2
EQUAL_COSINE = 0.999
"""A peer counts as accurate if its mean cosine to full precision is at least this, or at least ours if ours is lower.
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """The milliseconds of a call: the median, the best, and the median processor time."""

    ms: float
    best_ms: float
    busy_ms: float


@dataclass(slots=True)
class Contestant:
    """One encoder on one workload."""

    name: str
    operations: int
    """The number of operations with weights for the whole batch."""
    how: str
    """The fastest settings, as text."""
    is_whole: bool
    """Whether all settings were tried."""
    cosine: float
    """The mean cosine to full precision."""
    worst: float
    """The lowest cosine to full precision."""
    time_turn: Callable[[], Turn]
    """Times the encoder for one turn."""
    is_single_threaded: bool
    """Whether the encoder has one thread, so that its processor time counts instead of wall-clock time."""
    turns: list[Turn] = field(default_factory=list)

    def run(self) -> None:
        self.turns.append(self.time_turn())

    @property
    def best_ms(self) -> float:
        return min(turn.best_ms for turn in self.turns)

    @property
    def ms(self) -> float:
        return statistics.median(turn.busy_ms if self.is_single_threaded else turn.ms for turn in self.turns)


@dataclass(slots=True)
class Race:
    """Our encoder and the running peers on one workload."""

    workload: Workload
    ours: Contestant
    peers: tuple[Contestant, ...]
    broken: dict[str, str] = field(default_factory=dict)
    """Peer -> the reason why it broke in its turn. A broken peer is removed from `peers`."""

    def run(self) -> None:
        """Runs the heats, then the final. The encoders must be prepared."""
        for _ in range(HEATS):
            self.ours.run()
            for peer in self.peers:
                self._run(peer)
        finalists = {peer.name for peer in (*self.fastest[:FINALISTS], *self.accurate[:FINALISTS])}
        final = [peer for peer in self.peers if peer.name in finalists]
        for _ in range(ROUNDS):
            for peer in final:
                if peer.name not in self.broken:
                    self.ours.run()
                    self._run(peer)

    def _run(self, peer: Contestant) -> None:
        try:
            peer.run()
        except PeerFailed as error:
            self.broken[peer.name] = str(error)
            self.peers = tuple(entry for entry in self.peers if entry is not peer)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The names of the peers whose best settings are not known, because not all settings were tried."""
        return tuple(peer.name for peer in self.peers if not peer.is_whole)

    @property
    def fastest(self) -> list[Contestant]:
        """The peers, the fastest first."""
        return sorted(self.peers, key=lambda peer: peer.ms)

    @property
    def accurate(self) -> list[Contestant]:
        """The peers of equal accuracy, the fastest first."""
        enough = min(EQUAL_COSINE, self.ours.cosine)
        return [peer for peer in self.fastest if peer.cosine >= enough]


def disturbance(races: Sequence[Race]) -> float:
    """Returns wall-clock time over processor time of our encoder on one thread, which is near 1 on a quiet machine."""
    turns = chain.from_iterable(race.ours.turns for race in races)
    return statistics.median(turn.ms / turn.busy_ms for turn in turns)


def summary(races: Sequence[Race]) -> Group:
    """Makes a table of milliseconds a batch and mean cosines to full precision, and a table of the settings used."""
    times = Table(title="ms a batch, and mean cosine to full precision", title_justify="left")
    times.add_column("encoder", no_wrap=True)
    for race in races:
        times.add_column(race.workload.name, justify="right")
    names: dict[str, None] = {}
    for race in races:
        names |= dict.fromkeys(entry.name for entry in (race.ours, *race.peers))
    for name in names:
        times.add_row(name, *(_cell(_entry(race, name)) for race in races))
    settings = Table(title="fastest settings", title_justify="left", show_header=False)
    settings.add_column(no_wrap=True)
    settings.add_column()
    for name in names:
        workloads: dict[str, list[str]] = {}
        for race in races:
            if entry := _entry(race, name):
                workloads.setdefault(entry.how, []).append(race.workload.name)
        settings.add_row(name, "; ".join(f"{how} ({', '.join(works)})" for how, works in workloads.items()))
    return Group(times, settings)


def _entry(race: Race, name: str) -> Contestant | None:
    return next((entry for entry in (race.ours, *race.peers) if entry.name == name), None)


def _cell(entry: Contestant | None) -> str:
    return "broke" if entry is None else f"{entry.ms:.3g}  {entry.cosine:.4f}"
