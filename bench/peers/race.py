"""What came of encoders that were timed on the same work, in turns.

Shape of a race: heats (everybody, in turns) find the fastest and the fastest of equal accuracy, two of each; the final
times those against ours, alternating: ours, peer, ours, peer ... A figure is the median of its turns.

On one thread the time is the processor's, which others on this machine do not move; on more it is the clock's.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.peers.works import Work

HEATS = 1
ROUNDS = 5
FINALISTS = 2
EQUAL_COSINE = 0.999
"""Mean cosine to full precision from which on a peer counts as accurate; ours, where ours is lower."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Milliseconds a call: the median, the best, and the median of the processor's time."""

    ms: float
    best_ms: float
    busy_ms: float


@dataclass(slots=True)
class Contestant:
    """One encoder on one work: how it is set, how near full precision it comes, and `take`, which times it again.

    `operations` are those with weights, for the whole batch.
    """

    name: str
    operations: int
    how: str
    cosine: float
    worst: float
    take: Callable[[], Turn]
    alone: bool
    """Whether it has one thread, so that the processor's time is its time."""
    turns: list[Turn] = field(default_factory=list)

    def run(self) -> None:
        self.turns.append(self.take())

    @property
    def best_ms(self) -> float:
        return min(turn.best_ms for turn in self.turns)

    @property
    def ms(self) -> float:
        return statistics.median(turn.busy_ms if self.alone else turn.ms for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Race:
    """`ours`, and the peers that ran."""

    work: Work
    ours: Contestant
    peers: tuple[Contestant, ...]

    def run(self) -> None:
        """Heats, then the final. The encoders must be prepared."""
        for _ in range(HEATS):
            for entry in (self.ours, *self.peers):
                entry.run()
        finalists = dict.fromkeys(peer.name for peer in (*self.fastest[:FINALISTS], *self.accurate[:FINALISTS]))
        chosen = [peer for peer in self.peers if peer.name in finalists]
        for _ in range(ROUNDS):
            for peer in chosen:
                self.ours.run()
                peer.run()

    @property
    def fastest(self) -> list[Contestant]:
        """The peers, the fastest first."""
        return sorted(self.peers, key=lambda peer: peer.ms)

    @property
    def accurate(self) -> list[Contestant]:
        """Those of equal accuracy."""
        enough = min(EQUAL_COSINE, self.ours.cosine)
        return [peer for peer in self.fastest if peer.cosine >= enough]


def disturbance(races: Sequence[Race]) -> float:
    """The clock's time over the processor's, of ours on one thread: near 1 where nobody else was at work."""
    return statistics.median(turn.ms / turn.busy_ms for race in races for turn in race.ours.turns)
