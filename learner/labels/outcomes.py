"""What becomes of labels: how many met each end, and whether too many of the recent ones came to nothing. Pure."""

from collections import Counter, deque
from enum import Enum
from typing import Final

from wire.events import AMBIGUOUS

RECENT: Final = 1_000
"""Labels over which the share of those is taken that came to nothing."""

FEW: Final = 100
"""Labels without which such a share says nothing."""

ALARMING: Final = 0.01
"""The share of labels that may come to nothing."""


class Fate(Enum):
    """What becomes of a label that no answer is taken for. A value is the name of its count."""

    WAIT = "early"
    LATE = "late"
    ORPHAN = "orphan"
    DUPLICATE = "duplicate"
    AMBIGUOUS = f"quarantined_{AMBIGUOUS}"


TOO_SMALL: Final = {
    Fate.LATE: "came when their answer waited no longer: raise learner.pending_bytes",
    Fate.ORPHAN: "waited for an answer that did not come: raise learner.parked_bytes, or look at who sends them",
}
"""What to do about labels of these ends."""


class Ends:
    """Counts labels by their end, and remembers the last RECENT of these."""

    def __init__(self, counts: Counter[str], recent: list[str]) -> None:
        self._counts = counts
        self._recent = deque(recent, maxlen=RECENT)

    def add(self, end: str) -> None:
        self._counts[end] += 1
        self._recent.append(end)

    def alarms(self) -> list[str]:
        """What is wrong with the windows, in words."""
        shares = {fate: self._recent.count(fate.value) / max(len(self._recent), 1) for fate in TOO_SMALL}
        return [
            f"{share:.1%} of the last {len(self._recent)} labels {TOO_SMALL[fate]}"
            for fate, share in shares.items()
            if share > ALARMING and len(self._recent) >= FEW
        ]

    def export(self) -> list[str]:
        return list(self._recent)
