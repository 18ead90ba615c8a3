"""The slow tier: rounds of training beside the published encoder, one small unit of work at a time.

    plan: all batches --> (GUESS) --> TRAIN, a step a unit --> STORE --> REBUILD the fast tier --> MEASURE --> DONE

A round starts after a number of labels. When labels stay away, one more goes over the memory, twice (a rehearsal:
CLINC150 gains 0.9 points by it, and its last classes most), and where most texts have no label, two more train on
pseudo-labels of those (`learner.slow.pseudo_labels`). All batches are drawn at the start, and the tokens that are
dropped by a seeded rng: what a round learns is a function of its plan, of the class means it starts from, and of the
encoder. A checkpoint holds
these, and a restart repeats the round from them; the optimizer is not worth a place in it. The published encoder keeps
serving and the fast tier keeps learning under it; labels that come while the next one is rebuilt are learnt under both
(`also`).

Rejected: a thread (the two would fight for the cores, and the order of their effects would depend on the scheduler).
"""

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from functools import partial

import numpy as np
import torch
from torch import Tensor

from learner.config import LearnerConfig
from learner.export import stored_encoder
from learner.failpoints import failpoint
from learner.fast.fast_head import FastTier
from learner.memory.holdout import Holdout
from learner.memory.replay import Labelled, Replay, draw
from learner.slow.pseudo_labels import PseudoLabels
from learner.slow.token_dropout import token_dropout
from learner.slow.trainer import Trainer, with_own_top
from learner.state.snapshot import RoundPlan, StepPlan
from model.strata import Strata

GROWTH = 0.1
"""A round ends with encoding the replay memory anew, so the next waits for this share of it in new labels."""


class Phase(Enum):
    GUESS = "guess"
    TRAIN = "train"
    STORE = "store"
    REBUILD = "rebuild"
    MEASURE = "measure"
    DONE = "done"


class SlowRound:
    """One round. `step` does one unit; at DONE, `strata` and `next_tier` are what it made."""

    def __init__(
        self, plan: RoundPlan, means_CD: Tensor, tier: FastTier, strata: Strata, *, config: LearnerConfig
    ) -> None:
        self.plan = plan
        self.means_CD = means_CD
        self.losses = list[float]()
        unlabelled = plan.unlabelled
        self._guesses = PseudoLabels(unlabelled, means_CD, unit=config.rebuild_batch)
        self.phase = Phase.GUESS if unlabelled else Phase.TRAIN
        self._tier = tier
        self._unit = config.rebuild_batch
        rng = np.random.default_rng([config.seed, plan.number])
        self._thin = partial(token_dropout, share=config.slow_token_dropout, rng=rng)
        self._first_layer = strata.config.n_layers - config.trainable_layers
        self.strata = with_own_top(strata, self._first_layer)
        self.next_tier = tier
        self._todo: list[Labelled] = []
        self._num_todo = 1
        self._rows = {label: row for row, label in enumerate(plan.labels)}
        self._trainer = Trainer(self.strata, means_CD, parent=strata, num_steps=len(plan.steps), config=config)

    def step(self, replay: Replay[Labelled], holdout: Holdout) -> Phase:
        """Do one unit of work. Raises NonFinite when training has led nowhere: drop the round."""
        if self.phase is Phase.GUESS:
            self._guess()
        elif self.phase is Phase.TRAIN:
            self._train()
        elif self.phase is Phase.STORE:
            self._store(replay)
        elif self.phase is Phase.REBUILD:
            self._rebuild()
        elif self.phase is Phase.MEASURE:
            is_warm = [holdout.warm(tier.served, self._unit) for tier in (self._tier, self.next_tier)]
            self.phase = Phase.DONE if all(is_warm) else Phase.MEASURE
        return self.phase

    def also(self, samples: Sequence[Labelled]) -> None:
        """Samples that were learnt meanwhile: the next encoder must know them too.

        They are learnt at once, not queued: labels may come faster than a unit of rebuilding takes them.
        """
        if self.phase in (Phase.REBUILD, Phase.MEASURE):  # until then they are in the memory, which is read later
            self._learn(samples)

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """A class, which is `samples`, loses its row to another: the next encoder must not know it either."""
        if self.next_tier is self._tier:
            return
        left = [sample for sample in self._todo if sample.label == old]
        learnt = Counter(samples) - Counter(left)
        self._todo = [sample for sample in self._todo if sample.label != old]
        self.next_tier.admit_all(self._tier.head.classes)
        self.next_tier.evict(list(learnt.elements()), old, new)

    @property
    def progress(self) -> float:
        """How far the phase is, in [0, 1]."""
        if self.phase is Phase.GUESS:
            return self._guesses.progress
        if self.phase is Phase.TRAIN:
            return len(self.losses) / max(len(self.plan.steps), 1)
        return 1 - len(self._todo) / self._num_todo if self.phase is Phase.REBUILD else 1.0

    def _guess(self) -> None:
        self._guesses.step(self._tier.served)
        if self._guesses.rows:
            self.phase = Phase.TRAIN

    def _train(self) -> None:
        step = self.plan.steps[len(self.losses)]
        texts = [sample.text for sample in step.samples]
        x_TD, layout = self._tier.served.prefix(texts, self._first_layer, thin=self._thin)
        rows_B = torch.tensor([self._row_of(sample) for sample in step.samples])
        sizes = [len(part) for part in (step.fresh, *step.draws)]
        self.losses.append(self._trainer.step(x_TD, layout, rows_B, sizes))
        failpoint("after-slow-step")
        if len(self.losses) == len(self.plan.steps):
            self.phase = Phase.STORE

    def _row_of(self, sample: Labelled) -> int:
        return self._rows[sample.label] if sample.label else self._guesses.rows[sample.text]

    def _store(self, replay: Replay[Labelled]) -> None:
        top = stored_encoder(self.strata, first_layer=self._first_layer)
        self.next_tier = self._tier.successor(self._tier.served.with_top(top))
        self._todo = replay.samples()
        self._num_todo = max(len(self._todo), 1)
        self.phase = Phase.REBUILD

    def _rebuild(self) -> None:
        unit = self._todo[: self._unit]
        self._todo = self._todo[self._unit :]
        self._learn(unit)
        if not self._todo:
            self.phase = Phase.MEASURE

    def _learn(self, samples: Sequence[Labelled]) -> None:
        self.next_tier.admit_all(self._tier.head.classes)
        self.next_tier.learn_many(samples)


def labels_due(num_memory: int, *, every: int) -> float:
    """The labels since the last round that are enough for another, with `num_memory` samples in memory.

    >>> labels_due(1_000, every=500), labels_due(10_000, every=500)
    (500, 1000.0)
    """
    return max(every, GROWTH * num_memory)


def step_sizes(size: int, num_draws: int, *, share_fresh: float = 0.5) -> tuple[int, ...]:
    """How a step of `size` samples is parted: the fresh ones, then those of each draw. Without draws all are fresh.

    >>> step_sizes(32, 1), step_sizes(32, 2, share_fresh=0.75), step_sizes(32, 0)
    ((16, 16), (24, 4, 4), (32,))
    """
    if not num_draws:
        return (size,)
    num_fresh = int(size * share_fresh)
    return (num_fresh, *[(size - num_fresh) // num_draws] * num_draws)


def draw_plan(
    number: int,
    fresh: Sequence[Labelled],
    replay: Replay[Labelled],
    *,
    steps: int,
    sizes: Sequence[int],
    seed: int,
) -> RoundPlan:
    """The steps of round `number`: `sizes[0]` samples each from `fresh`, shuffled and as often as needed, and a draw of
    each other size from `replay`. Without `fresh` all are from `replay`.

    A function of which samples there are, of `number` and of `seed`: the order in which they came changes nothing.
    """
    rng = np.random.default_rng([seed, number])
    groups = replay.groups()
    pool = sorted(fresh) or [sample for group in groups for sample in group]
    num_fresh, *draws = sizes
    order: list[int] = []
    while len(order) < num_fresh * steps:
        order += rng.permutation(len(pool)).tolist()
    return RoundPlan(
        number=number,
        steps=[
            StepPlan(
                fresh=[pool[place] for place in order[step * num_fresh : (step + 1) * num_fresh]],
                draws=[draw(groups, num_samples, rng) for num_samples in draws],
            )
            for step in range(steps)
        ],
    )
