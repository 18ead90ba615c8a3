"""Times encoders on the same workload, in turns, and summarizes races for people.

A race has two parts. The heats, in which all take turns, find the two fastest and the two fastest of equal accuracy.
The final times those against ours, alternating: ours, peer, ours, peer ... A figure is the median of its turns.

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
"""The mean cosine to full precision from which on a peer counts as accurate; ours, where ours is lower."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The milliseconds a call: the median, the best, and the median processor time."""

    ms: float
    best_ms: float
    busy_ms: float


@dataclass(slots=True)
class Contestant:
    """One encoder on one workload."""

    name: str
    operations: int
    """The operations with weights, for the whole batch."""
    how: str
    """The settings that were fastest, in words."""
    is_whole: bool
    """Whether all its settings were tried."""
    cosine: float
    """The mean cosine to full precision."""
    worst: float
    """The lowest cosine to full precision."""
    time_turn: Callable[[], Turn]
    """Times it once more."""
    is_single_threaded: bool
    """Whether it has one thread, so that its processor time is what counts."""
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
    """Ours and the peers that run, on one workload."""

    workload: Workload
    ours: Contestant
    peers: tuple[Contestant, ...]
    broken: dict[str, str] = field(default_factory=dict)
    """Why a peer broke in its turn, by name. It is none of the peers any more."""

    def run(self) -> None:
        """Runs the heats, then the final. The encoders must be prepared."""
        for _ in range(HEATS):
            self.ours.run()
            for peer in self.peers:
                self._run(peer)
        finalists = {peer.name for peer in (*self.fastest[:FINALISTS], *self.accurate[:FINALISTS])}
        chosen = [peer for peer in self.peers if peer.name in finalists]
        for _ in range(ROUNDS):
            for peer in chosen:
                if peer.name not in self.broken:
                    self.ours.run()
                    self._run(peer)

    def _run(self, peer: Contestant) -> None:
        try:
            peer.run()
        except PeerFailed as why:
            self.broken[peer.name] = str(why)
            self.peers = tuple(entry for entry in self.peers if entry is not peer)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The names of the peers whose best settings are not known, since not all were tried."""
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
    """Returns wall-clock time over processor time, for ours on one thread: near 1 where nothing else was running."""
    turns = chain.from_iterable(race.ours.turns for race in races)
    return statistics.median(turn.ms / turn.busy_ms for turn in turns)


def summary(races: Sequence[Race]) -> Group:
    """Makes a table of milliseconds a batch and mean cosines to full precision, and one of the settings used."""
    shown = Table(title="ms a batch, and mean cosine to full precision", title_justify="left")
    shown.add_column("encoder", no_wrap=True)
    for race in races:
        shown.add_column(race.workload.name, justify="right")
    names: dict[str, None] = {}
    for race in races:
        names |= dict.fromkeys(entry.name for entry in (race.ours, *race.peers))
    for name in names:
        shown.add_row(name, *(_cell(_entry(race, name)) for race in races))
    settings = Table(title="how each was fastest", title_justify="left", show_header=False)
    settings.add_column(no_wrap=True)
    settings.add_column()
    for name in names:
        workloads: dict[str, list[str]] = {}
        for race in races:
            if entry := _entry(race, name):
                workloads.setdefault(entry.how, []).append(race.workload.name)
        settings.add_row(name, "; ".join(f"{how} ({', '.join(names)})" for how, names in workloads.items()))
    return Group(shown, settings)


def _entry(race: Race, name: str) -> Contestant | None:
    return next((entry for entry in (race.ours, *race.peers) if entry.name == name), None)


def _cell(entry: Contestant | None) -> str:
    return "broke" if entry is None else f"{entry.ms:.3g}  {entry.cosine:.4f}"
