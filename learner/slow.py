"""The slow tier: rounds of training beside the published encoder, one small unit of work at a time.

    plan: all batches --> TRAIN, a step a unit --> STORE --> REBUILD the fast tier --> MEASURE --> DONE

A round starts after a number of labels; when labels stay away, one more goes over as many samples as the memory holds
(a rehearsal: CLINC150 gains 0.9 points by it, and its last classes most). All batches are drawn at the start: what it
learns is a function of its plan, of the class means it starts from, and of the encoder. A checkpoint holds these, and a
restart repeats the round from them; the optimizer is not worth a place in it. The published encoder keeps serving and
the fast tier keeps learning under it; labels that come while the next one is rebuilt are learnt under both (`also`).

Rejected: a thread (the two would fight for the cores, and the order of their effects would depend on the scheduler).
"""

from collections.abc import Sequence
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from learner.checkpoint import RoundPlan, StepPlan
from learner.config import LearnerConfig
from learner.failpoints import failpoint
from learner.fast import FastTier
from learner.held_back import HeldBack
from learner.replay import Labelled, Replay
from learner.requantize import stored_encoder
from learner.tier import Trainer, with_own_top
from model.strata import Strata

GROWTH = 0.1
"""A round ends with encoding the replay memory anew, so the next waits for this share of it in new labels."""


class Phase(Enum):
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
        self.plan, self.means_CD, self.phase, self.losses = plan, means_CD, Phase.TRAIN, list[float]()
        self._tier, self._unit = tier, config.rebuild_batch
        self._first_layer = strata.config.n_layers - config.trainable_layers
        self.strata = with_own_top(strata, self._first_layer)
        self.next_tier = tier
        self._todo: list[Labelled] = []
        self._num_todo = 1
        self._rows = {label: row for row, label in enumerate(plan.labels)}
        self._trainer = Trainer(self.strata, means_CD, parent=strata, num_steps=len(plan.steps), config=config)

    def step(self, replay: Replay[Labelled], held_back: HeldBack) -> Phase:
        """Do one unit of work. Raises NonFinite when training has led nowhere: drop the round."""
        if self.phase is Phase.TRAIN:
            self._train()
        elif self.phase is Phase.STORE:
            self._store(replay)
        elif self.phase is Phase.REBUILD:
            self._rebuild()
        elif self.phase is Phase.MEASURE:
            is_warm = [held_back.warm(tier.served, self._unit) for tier in (self._tier, self.next_tier)]
            self.phase = Phase.DONE if all(is_warm) else Phase.MEASURE
        return self.phase

    def also(self, samples: Sequence[Labelled]) -> None:
        """Samples that were learnt meanwhile: the next encoder must know them too.

        They are learnt at once, not queued: labels may come faster than a unit of rebuilding takes them.
        """
        if self.phase not in (Phase.TRAIN, Phase.STORE):  # until then they are in the memory, which is read later
            self._learn(samples)

    @property
    def progress(self) -> float:
        """How far the phase is, in [0, 1]."""
        if self.phase is Phase.TRAIN:
            return len(self.losses) / max(len(self.plan.steps), 1)
        return 1 - len(self._todo) / self._num_todo if self.phase is Phase.REBUILD else 1.0

    def _train(self) -> None:
        step = self.plan.steps[len(self.losses)]
        x_TD, layout = self._tier.served.prefix([sample.text for sample in step.samples], self._first_layer)
        rows_B = torch.tensor([self._rows[sample.label] for sample in step.samples])
        sizes = [len(part) for part in (step.fresh, *step.draws)]
        self.losses.append(self._trainer.step(x_TD, layout, rows_B, sizes))
        failpoint("after-slow-step")
        if len(self.losses) == len(self.plan.steps):
            self.phase = Phase.STORE

    def _store(self, replay: Replay[Labelled]) -> None:
        top = stored_encoder(self.strata, first_layer=self._first_layer)
        self.next_tier = self._tier.successor(self._tier.served.with_top(top))
        self._todo = replay.samples()
        self._num_todo = max(len(self._todo), 1)
        self.phase = Phase.REBUILD

    def _rebuild(self) -> None:
        unit, self._todo = self._todo[: self._unit], self._todo[self._unit :]
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


def draw_plan(
    number: int,
    fresh: Sequence[Labelled],
    replay: Replay[Labelled],
    *,
    steps: int,
    size: int,
    num_draws: int,
    seed: int,
) -> RoundPlan:
    """The steps of round `number`, of `size` samples each: half of them from `fresh`, shuffled and as often as needed,
    the other half shared by the draws from `replay`. Without draws all are from `fresh`, without `fresh` from `replay`.
    """
    dice, pool = np.random.default_rng([seed, number]), fresh or replay.samples()
    num_fresh = size // 2 if num_draws else size
    order: list[int] = []
    while len(order) < num_fresh * steps:
        order += dice.permutation(len(pool)).tolist()
    return RoundPlan(
        number=number,
        steps=[
            StepPlan(
                fresh=[pool[place] for place in order[step * num_fresh : (step + 1) * num_fresh]],
                draws=[replay.draw((size - num_fresh) // num_draws) for _ in range(num_draws)],
            )
            for step in range(steps)
        ],
    )
