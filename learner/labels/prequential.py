"""Prequential accuracy: every served answer is scored by its label before the label is learnt (test, then train).

Rejected: scoring the current weights instead of the served answer. What was served is what counts.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from learner.labels.sample import Sample

RECENT: Final = 1_000
"""Number of samples in the moving average."""


class Prequential:
    """Holds the accuracy of all served answers, and that of the recent ones."""

    def __init__(self, *, num_scored: int = 0, num_correct: int = 0, recent: Iterable[bool] = ()) -> None:
        self.num_scored = num_scored
        self.num_correct = num_correct
        self.recent = deque(recent, maxlen=RECENT)

    def add(self, samples: Iterable[Sample]) -> None:
        """Scores the answers of `samples`. An answer without a label, from weights that knew no class, is wrong."""
        for sample in samples:
            if not sample.is_answered:
                continue
            self.num_scored += 1
            self.num_correct += sample.is_correct
            self.recent.append(sample.is_correct)

    @property
    def accuracy(self) -> float:
        """The share of all answers that were right, in [0, 1]; 0 before the first."""
        return self.num_correct / max(self.num_scored, 1)

    @property
    def recent_accuracy(self) -> float:
        """The share of the last RECENT answers that were right, in [0, 1]; 0 before the first."""
        return sum(self.recent) / max(len(self.recent), 1)
