"""Prequential accuracy: each served answer is scored by its label before the label is learnt (test, then train).

Rejected: scoring the predictions of the current weights, since only the served answers matter to a user.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

from learner.samples import Sample
from wire.kinds import find_kind, render
from wire.records import Confusion

RECENT: Final = 1_000
"""The number of answers in the moving average."""

MAX_CONFUSIONS: Final = 20
"""The most confusions that are reported, the most frequent first."""


class Prequential:
    """Measures the accuracy of the served answers by their labels: of all answers, and of the last RECENT answers."""

    def __init__(self, *, num_scored: int = 0, num_correct: int = 0, recent: Iterable[bool] = ()) -> None:
        self.num_scored = num_scored
        self.num_correct = num_correct
        self.recent = deque(recent, maxlen=RECENT)
        # Pairs of the label and the predicted label.
        self._recent_pairs: deque[tuple[str, str]] = deque(maxlen=RECENT)

    def add(self, samples: Iterable[Sample]) -> None:
        """Scores the answers of `samples`. An answer of a model that had no classes yet counts as wrong."""
        for sample in samples:
            if not sample.is_answered:
                continue
            self.num_scored += 1
            self.num_correct += sample.is_correct
            self.recent.append(sample.is_correct)
            self._recent_pairs.append((sample.label, sample.predicted_label or ""))

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Renames the classes in the recent answers; `name_of` maps an old name to the new one."""
        pairs = deque[tuple[str, str]](maxlen=RECENT)
        for label, predicted in self._recent_pairs:
            pairs.append((name_of(label), name_of(predicted) if predicted else ""))
        self._recent_pairs = pairs

    @property
    def accuracy(self) -> float:
        """The share of correct answers, in [0, 1]; 0 before the first one."""
        return self.num_correct / max(self.num_scored, 1)

    @property
    def recent_accuracy(self) -> float:
        """The share of correct answers among the last RECENT, in [0, 1]; 0 before the first one."""
        return sum(self.recent) / max(len(self.recent), 1)

    def confusions(self) -> tuple[Confusion, ...]:
        """Returns the most frequent confusions of two classes in recent answers. Checkpoints do not contain them."""
        wrong = [pair for pair in self._recent_pairs if pair[0] != pair[1]]
        confusions = Counter(pair for pair in wrong if find_kind(pair[0]).has_classes)
        return tuple(
            Confusion(label=render(label), answered=predicted and render(predicted), answers=num)
            for (label, predicted), num in confusions.most_common(MAX_CONFUSIONS)
        )
