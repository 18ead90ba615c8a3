"""Prequential accuracy: every served answer is scored by its label before the label is learnt (test, then train).

Rejected: scoring the current weights instead of the served answer. What was served is what counts.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

from learner.samples import Sample
from wire.kinds import kind_of, render
from wire.records import Confusion

RECENT: Final = 1_000
"""Number of samples in the moving average."""

MAX_CONFUSIONS: Final = 20
"""The most frequent mistakes that are told."""


class Prequential:
    """Holds the accuracy of all served answers, and that of the recent ones."""

    def __init__(self, *, num_scored: int = 0, num_correct: int = 0, recent: Iterable[bool] = ()) -> None:
        self.num_scored = num_scored
        self.num_correct = num_correct
        self.recent = deque(recent, maxlen=RECENT)
        self._named: deque[tuple[str, str]] = deque(maxlen=RECENT)  # label, and what was answered

    def add(self, samples: Iterable[Sample]) -> None:
        """Scores the answers of `samples`. An answer without a label, from weights that knew no class, is wrong."""
        for sample in samples:
            if not sample.is_answered:
                continue
            self.num_scored += 1
            self.num_correct += sample.is_correct
            self.recent.append(sample.is_correct)
            self._named.append((sample.label, sample.predicted_label or ""))

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Goes on under other names of the classes."""
        named = [(name_of(label), name_of(answered) if answered else "") for label, answered in self._named]
        self._named = deque(named, maxlen=RECENT)

    @property
    def accuracy(self) -> float:
        """The share of all answers that were right, in [0, 1]; 0 before the first."""
        return self.num_correct / max(self.num_scored, 1)

    @property
    def recent_accuracy(self) -> float:
        """The share of the last RECENT answers that were right, in [0, 1]; 0 before the first."""
        return sum(self.recent) / max(len(self.recent), 1)

    def confusions(self) -> tuple[Confusion, ...]:
        """Returns the most frequent mistakes among the recent answers; a checkpoint does not keep them."""
        named_wrongly = (named for named in self._named if named[0] != named[1])
        mistakes = Counter(named for named in named_wrongly if kind_of(named[0]).has_classes)
        return tuple(
            Confusion(label=render(label), answered=answered and render(answered), answers=num)
            for (label, answered), num in mistakes.most_common(MAX_CONFUSIONS)
        )
