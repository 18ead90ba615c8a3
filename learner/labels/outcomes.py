"""Counts the outcomes of labels, and raises an alarm where too many recent labels found no answer. Pure."""

from collections import Counter, deque
from enum import Enum
from typing import Final

from wire.events import AMBIGUOUS

RECENT: Final = 1_000
"""Number of labels over which the shares of late and orphaned labels are taken."""

MIN_LABELS: Final = 100
"""There is no alarm on fewer labels than this."""

MAX_UNMATCHED_SHARE: Final = 0.01
"""Share of labels up to which late or orphaned ones raise no alarm."""


class Unmatched(Enum):
    """Says why a label is not joined with an answer now. A value is the name of its counter."""

    WAIT = "early"
    LATE = "late"
    ORPHAN = "orphan"
    DUPLICATE = "duplicate"
    AMBIGUOUS = f"quarantined_{AMBIGUOUS}"
    CORRECTION = "correction"


ADVICE: Final = {
    Unmatched.LATE: "came when their answer waited no longer, and are looked for: raise learner.pending_bytes",
    Unmatched.ORPHAN: "waited for an answer that did not come: raise learner.parked_bytes, or look at who sends them",
}
"""What the alarm says of labels with these outcomes, and what to do about them."""


class LabelOutcomes:
    """Counts labels by their outcome, and remembers the last RECENT outcomes."""

    def __init__(self, counts: Counter[str], recent: list[str]) -> None:
        self._counts = counts
        self._recent = deque(recent, maxlen=RECENT)

    def add(self, outcome: str) -> None:
        self._counts[outcome] += 1
        self._recent.append(outcome)

    def alarms(self) -> list[str]:
        """Describes what is wrong with the windows, in words."""
        num = len(self._recent)
        if num < MIN_LABELS:
            return []
        shares = {reason: self._recent.count(reason.value) / num for reason in ADVICE}
        return [
            f"{share:.1%} of the last {num} labels {ADVICE[reason]}"
            for reason, share in shares.items()
            if share > MAX_UNMATCHED_SHARE
        ]

    def export(self) -> list[str]:
        return list(self._recent)
