"""A trial: the next encoder beside the one in use, by labels that neither fast head has learnt yet.

    new labels --a unit's worth--> both heads, as solved after the unit before, name the texts --> who was right
               --> then both learn them, and are solved again
    counts, and those of the holdout --rule of the rollout--> adopt, drop, or go on

Where the holdout is small it tells neither encoder to be better, and a version with the next one would wait for labels
in the rollout: of a stream of 20 events a second the stable version stood still for 60 % of the time, 25 to 48 s after
each round. So both fast heads go on learning, versions with the encoder in use go on being published, and the round
ends when the rollout would make its encoder stable at once. Each label is named before it is learnt (prequential
evaluation, Dawid 1984), so the counts are evidence for whoever reads the manifest.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from torch import Tensor

from learner.encoder.served import ServedEncoder
from learner.fast.fast_head import FastHead
from learner.memory import targets_of
from learner.quality.comparison import Paired, pair
from learner.quality.name_changes import encoder_changes
from learner.rounds.next_head import NextHead
from learner.samples import Labelled
from wire.records import NameChanges

UNIT: Final = 64
"""Labels that wait for a unit, which solves both heads: that takes 0.2 s."""


AdoptionRule: TypeAlias = Callable[[NameChanges], bool | None]
"""Says by the counts of two encoders if the next one is adopted; None: they do not tell. It is the rollout's rule."""


class Solved(NamedTuple):
    """A fast head as it was solved: the class of each row of its weights, and what it needs to name a text."""

    served: ServedEncoder
    classes: tuple[str, ...]
    weights_CR: Tensor
    threshold: float

    def is_right(self, samples: Sequence[Labelled]) -> Tensor:
        """Returns whether each sample is named rightly, bool [samples]."""
        phi_NR = self.served.features(self.served.z_many([sample.text for sample in samples]))
        return targets_of(samples, self.classes).right(phi_NR @ self.weights_CR.T - self.threshold)


class Trial:
    """Compares `old`, which learns in the learner's thread, with the next head, which learns in the units.

    `held` compares them on the holdout. `paired` counts the labels so far, about `max_labels` at most. Belongs to the
    learner's thread, as `NextHead` does.
    """

    def __init__(
        self, old: FastHead, following: NextHead, *, held: Paired, max_labels: int, rule: AdoptionRule
    ) -> None:
        self.paired = Paired()
        self._old = old
        self._following = following
        self._held = held
        self._rule = rule
        self._verdict = rule(encoder_changes(held, self.paired))
        self._max_labels = max_labels
        self._solved: tuple[Solved, Solved] | None = None

    def unit(self) -> Callable[[], None]:
        """Returns a unit: both heads name what waits, the next one learns it too, and both are solved if it goes on."""
        return self._following.unit(self._solving(), before=self._count)

    @property
    def is_due(self) -> bool:
        """Whether enough labels wait for a unit."""
        return self._following.num_waiting >= UNIT

    @property
    def is_over(self) -> bool:
        """Whether there is a verdict, or enough labels came without one."""
        return self.is_won or self.is_lost or self._is_at_end

    @property
    def is_won(self) -> bool:
        """Whether the rollout would make a version with the next encoder stable at once."""
        return self._verdict is True

    @property
    def is_lost(self) -> bool:
        """Whether the next encoder is worse, or not better when enough labels have come."""
        has_lost_more = self._is_at_end and self.paired.won < self.paired.lost
        return not self.is_won and (has_lost_more or self._verdict is False)

    @property
    def progress(self) -> float:
        """The share of the labels that have come, in [0, 1]."""
        return min(self.paired.num / self._max_labels, 1.0)

    @property
    def _is_at_end(self) -> bool:
        return self.paired.num >= self._max_labels

    def _solving(self) -> Callable[[], None]:
        """Returns what solves both heads: the old one as it is now."""
        solve_old = self._old.solver()
        classes = self._old.ridge.classes

        def solve() -> None:
            if self.is_over:
                return
            head = self._following.head
            old = Solved(self._old.served, classes, solve_old(), self._old.threshold)
            self._solved = old, Solved(head.served, head.ridge.classes, head.solve(), head.threshold)

        return solve

    def _count(self, samples: Sequence[Labelled]) -> None:
        """Counts how the heads name samples that neither had learnt when it was solved."""
        if self._solved is not None and samples:
            old, new = self._solved
            self.paired += pair(old.is_right(samples), new.is_right(samples))
            self._verdict = self._rule(encoder_changes(self._held, self.paired))
