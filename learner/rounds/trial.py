"""A trial: compares the next encoder with the current one on new labels, before either fast head has learnt them.

    UNIT new labels --> both heads, as solved after the last unit, predict the texts --> which of the two are right
                    --> both heads learn the labels, and are solved again
    these counts, and the counts on the holdout --rule of the rollout--> adopt, drop, or continue

A small holdout cannot show which encoder is better. Without a trial, a version with the next encoder would be
published, and the rollout would have to wait for labels before it promotes the version. At 20 events a second, the
stable version then did not change for 60 % of the time: for 25 to 48 s after each round. With a trial both fast heads
go on learning meanwhile, and versions with the current encoder are still published. The trial ends when the rollout
would promote the next encoder at once. Each label is predicted before it is learnt (prequential evaluation, Dawid
1984), so the manifest can state the counts as evidence.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from torch import Tensor

from learner.encoder.served import ServedEncoder
from learner.fast.fast_head import FastHead
from learner.memory import build_targets
from learner.quality.comparison import Paired, pair
from learner.quality.name_changes import encoder_changes
from learner.rounds.next_head import NextHead
from learner.samples import Labelled
from wire.records import NameChanges

UNIT: Final = 64
"""The number of labels for which a unit of the trial is due. Each unit solves both heads, which takes 0.2 s."""


AdoptionRule: TypeAlias = Callable[[NameChanges], bool | None]
"""The rollout's rule: decides from the counts whether to adopt the next encoder. None: the counts do not decide yet."""


class SolvedHead(NamedTuple):
    """The solved weights of a fast head, with everything that is needed to predict with them later."""

    served: ServedEncoder
    classes: tuple[str, ...]
    weights_CR: Tensor
    threshold: float

    def is_right(self, samples: Sequence[Labelled]) -> Tensor:
        """Returns whether the prediction for each sample is right, bool [samples]."""
        phi_NR = self.served.features(self.served.z_many([sample.text for sample in samples]))
        return build_targets(samples, self.classes).right(phi_NR @ self.weights_CR.T - self.threshold)


class Trial:
    """Compares the head `old`, which learns in the learner's thread, with the next head, which learns in the units.

    `holdout_result` has their comparison on the holdout. `paired` has their comparison on the labels so far, about
    `max_labels` at most. Only the learner's thread may call the methods.
    """

    def __init__(
        self, old: FastHead, next_head: NextHead, *, holdout_result: Paired, max_labels: int, rule: AdoptionRule
    ) -> None:
        self.paired = Paired()
        self._old = old
        self._next_head = next_head
        self._holdout_result = holdout_result
        self._rule = rule
        self._verdict = rule(encoder_changes(holdout_result, self.paired))
        self._max_labels = max_labels
        self._solved: tuple[SolvedHead, SolvedHead] | None = None

    def unit(self) -> Callable[[], None]:
        """Returns a unit of work: both heads predict the waiting samples, the next head learns them, both are solved.

        If the trial is over then, they are not solved any more.
        """
        return self._next_head.unit(self._solving(), before=self._count)

    @property
    def is_due(self) -> bool:
        """Whether enough labels for a unit are waiting."""
        return self._next_head.num_waiting >= UNIT

    @property
    def is_over(self) -> bool:
        """Whether the rule has decided, or the trial has used `max_labels` labels."""
        return self.is_won or self.is_lost or self._is_at_end

    @property
    def is_won(self) -> bool:
        """Whether the rollout would promote a version with the next encoder at once."""
        return self._verdict is True

    @property
    def is_lost(self) -> bool:
        """Whether the next encoder is worse: by the rule, or because it has lost more labels than it won at the end."""
        has_lost_more = self._is_at_end and self.paired.won < self.paired.lost
        return not self.is_won and (has_lost_more or self._verdict is False)

    @property
    def progress(self) -> float:
        """The share of `max_labels` that the trial has used, in [0, 1]."""
        return min(self.paired.num / self._max_labels, 1.0)

    @property
    def _is_at_end(self) -> bool:
        return self.paired.num >= self._max_labels

    def _solving(self) -> Callable[[], None]:
        """Returns a function that solves both heads, the old head with its current sums."""
        # The old head goes on learning, so `solver` copies its sums now, in the learner's thread.
        solve_old = self._old.solver()
        classes = self._old.ridge.classes

        def solve() -> None:
            if self.is_over:
                return
            head = self._next_head.head
            old = SolvedHead(self._old.served, classes, solve_old(), self._old.threshold)
            self._solved = old, SolvedHead(head.served, head.ridge.classes, head.solve(), head.threshold)

        return solve

    def _count(self, samples: Sequence[Labelled]) -> None:
        """Counts for samples that neither head has learnt yet which of the two heads predicts them rightly."""
        if self._solved is not None and samples:
            old, new = self._solved
            self.paired += pair(old.is_right(samples), new.is_right(samples))
            self._verdict = self._rule(encoder_changes(self._holdout_result, self.paired))
