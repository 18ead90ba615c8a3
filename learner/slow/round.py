"""A slow round: training beside the published encoder, one small unit of work at a time.

    plan: all batches --> (PSEUDO_LABEL) --> TRAIN, a step a unit --> STORE
                      --> REBUILD the fast head from the memory --> (CARRY_OVER) --> MEASURE --> DONE

A round starts after a number of labels. When labels stay away, one more round goes over the memory, twice (a rehearsal:
CLINC150 gains 0.9 points by it, and its last classes most). Where most texts have no label, two more rounds train on
pseudo-labels of those texts (`learner.slow.pseudo_labels`). All batches are drawn at the start, and the dropped tokens
from the round's own rng. So what a round learns is a function of three things: its plan, the class means that it starts
from, and the encoder. A checkpoint holds these, and a restart repeats the round from them; the state of the optimizer
is not kept. The published encoder keeps serving and the fast head keeps learning under it; labels that come while the
next fast head is rebuilt are learnt under both encoders (`learn_meanwhile`). What the fast head knows beyond the memory
is carried over (`learner.fast.carry_over`).

Rejected: a thread (the two would fight for the cores, and the order of their effects would depend on the scheduler).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from learner.config import LearnerConfig, is_import_path
from learner.export import export_encoder
from learner.failpoints import failpoint
from learner.fast.carry_over import CarryOver
from learner.fast.fast_head import FastHead
from learner.memory.holdout import Holdout
from learner.memory.replay import Labelled, Replay
from learner.slow.pseudo_labels import PseudoLabels
from learner.slow.schedule import RoundPlan
from learner.slow.trainer import Trainer, with_own_top
from model.ragged import RaggedLayout
from model.strata import Strata

if TYPE_CHECKING:
    from learner.slow.avalanche.trainer import AvalancheTrainer


class Phase(Enum):
    """What the next unit of a round does. The values are part of the learner's reports."""

    PSEUDO_LABEL = "pseudo_label"
    TRAIN = "train"
    STORE = "store"
    REBUILD = "rebuild"
    CARRY_OVER = "carry_over"
    MEASURE = "measure"
    DONE = "done"


class SlowRound:
    """One round. `step` does one unit; at DONE, `strata` and `next_fast_head` are what the round has made."""

    def __init__(
        self, plan: RoundPlan, means_CD: Tensor, fast_head: FastHead, strata: Strata, *, config: LearnerConfig
    ) -> None:
        self.plan = plan
        self.means_CD = means_CD
        self.losses = list[float]()
        unlabelled = plan.unlabelled
        self._pseudo_labels = PseudoLabels(unlabelled, means_CD, unit=config.rebuild_batch)
        self.phase = Phase.PSEUDO_LABEL if unlabelled else Phase.TRAIN
        self._fast_head = fast_head
        self._unit = config.rebuild_batch
        rng = np.random.default_rng([config.seed, plan.number])
        self._token_dropout = partial(token_dropout, share=config.slow_token_dropout, rng=rng)
        self._first_layer = strata.config.n_layers - config.trainable_layers
        self.strata = with_own_top(strata, self._first_layer)
        self.next_fast_head = fast_head
        self._todo: list[Labelled] = []
        self._num_todo = 1
        self._carry_over: CarryOver | None = None
        self._rows = {label: row for row, label in enumerate(plan.labels)}
        self._parent = strata
        self._config = config

    def step(self, replay: Replay[Labelled], holdout: Holdout) -> Phase:
        """Does one unit of work. Raises NonFinite when training has led nowhere, and DataError when a strategy fails.

        Drop the round in either case.
        """
        if self.phase is Phase.PSEUDO_LABEL:
            self._pseudo_label()
        elif self.phase is Phase.TRAIN:
            self._train()
        elif self.phase is Phase.STORE:
            self._store(replay)
        elif self.phase is Phase.REBUILD:
            self._rebuild()
        elif self.phase is Phase.CARRY_OVER:
            self._carry_rest_over()
        elif self.phase is Phase.MEASURE:
            heads = (self._fast_head, self.next_fast_head)
            is_warm = [holdout.warm(head.served, self._unit) for head in heads]
            self.phase = Phase.DONE if all(is_warm) else Phase.MEASURE
        return self.phase

    def learn_meanwhile(self, samples: Sequence[Labelled]) -> None:
        """Learns samples that came meanwhile: the next encoder must know them too.

        They are learnt at once, not queued: labels may come faster than a unit of rebuilding takes them. Before the
        memory is read for the rebuilding nothing has to be done, since they are in the memory.
        """
        if self.phase in (Phase.REBUILD, Phase.CARRY_OVER, Phase.MEASURE):
            self._learn(samples)

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """Takes a class, which is `samples`, out of the next fast head too, and gives its row to another."""
        if self.next_fast_head is self._fast_head:
            return
        left = [sample for sample in self._todo if sample.label == old]
        learnt = Counter(samples) - Counter(left)
        self._todo = [sample for sample in self._todo if sample.label != old]
        self.next_fast_head.admit_all(self._fast_head.ridge.classes)
        if self._carry_over is not None:
            self._carry_over.evict(left, old, new)
        self.next_fast_head.evict(list(learnt.elements()), old, new)

    @property
    def progress(self) -> float:
        """The share of the phase that is done, in [0, 1]."""
        if self.phase is Phase.PSEUDO_LABEL:
            return self._pseudo_labels.progress
        if self.phase is Phase.TRAIN:
            return len(self.losses) / max(len(self.plan.steps), 1)
        return 1 - len(self._todo) / self._num_todo if self.phase is Phase.REBUILD else 1.0

    def _pseudo_label(self) -> None:
        self._pseudo_labels.step(self._fast_head.served)
        if self._pseudo_labels.rows:
            self.phase = Phase.TRAIN

    def _train(self) -> None:
        step = self.plan.steps[len(self.losses)]
        x_TD, layout, rows_B = self._inputs(step.samples, drop_tokens=self._token_dropout)
        sizes = [len(part) for part in (step.fresh, *step.draws)]
        self.losses.append(self._trainer.step(x_TD, layout, rows_B, sizes))
        failpoint("after-slow-step")
        if len(self.losses) == len(self.plan.steps):
            self.phase = Phase.STORE

    @cached_property
    def _trainer(self) -> "Trainer | AvalancheTrainer":
        """The trainer, made for the first step. Raises DataError where a strategy that is not ours cannot be made."""
        config = self._config
        if not is_import_path(config.slow_strategy):
            num_steps = len(self.plan.steps)
            return Trainer(self.strata, self.means_CD, parent=self._parent, num_steps=num_steps, config=config)
        from learner.slow.avalanche.trainer import AvalancheTrainer

        return AvalancheTrainer(
            self.strata,
            self.means_CD,
            plan=self.plan,
            inputs=self._inputs,
            max_tokens=self._fast_head.served.tokenizer.max_tokens,
            config=config,
        )

    def _inputs(
        self, samples: Sequence[Labelled], *, drop_tokens: Callable[[list[int]], list[int]] = list
    ) -> tuple[Tensor, RaggedLayout, Tensor]:
        """Returns the activations below the trained blocks, their layout, and the row of each sample's class."""
        texts = [sample.text for sample in samples]
        x_TD, layout = self._fast_head.served.prefix(texts, self._first_layer, drop_tokens=drop_tokens)
        return x_TD, layout, torch.tensor([self._row_of(sample) for sample in samples])

    def _row_of(self, sample: Labelled) -> int:
        return self._rows[sample.label] if sample.label else self._pseudo_labels.rows[sample.text]

    def _store(self, replay: Replay[Labelled]) -> None:
        top = export_encoder(self.strata, first_layer=self._first_layer)
        self.next_fast_head = self._fast_head.successor(self._fast_head.served.with_top(top))
        self._todo = replay.samples()
        self._num_todo = max(len(self._todo), 1)
        if self._fast_head.ridge.num_samples > len(self._todo):
            self._carry_over = CarryOver(self._fast_head, self.next_fast_head)
        self.phase = Phase.REBUILD

    def _rebuild(self) -> None:
        unit = self._todo[: self._unit]
        self._todo = self._todo[self._unit :]
        if self._carry_over is None:
            self._learn(unit)
        else:
            self._carry_over.relearn(unit)
        if not self._todo:
            self.phase = Phase.MEASURE if self._carry_over is None else Phase.CARRY_OVER

    def _carry_rest_over(self) -> None:
        assert self._carry_over is not None, "the memory holds everything"
        if self._carry_over.step():
            self.phase = Phase.MEASURE

    def _learn(self, samples: Sequence[Labelled]) -> None:
        self.next_fast_head.admit_all(self._fast_head.ridge.classes)
        self.next_fast_head.learn_many(samples)


def token_dropout(ids: Sequence[int], share: float, rng: np.random.Generator) -> list[int]:
    """Returns the ids without about a `share` of those between the first and the last, each as likely to go.

    Token dropout (Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods", section 2.3): every step
    drops other tokens, so no class hangs on a single word. It drops tokens and not words, since not every language puts
    spaces between words.

    >>> token_dropout([101, 5, 6, 102], 1.0, np.random.default_rng(0))
    [101, 102]
    """
    stays_N = rng.random(len(ids)) >= share
    stays_N[[0, -1]] = True
    return [token for token, stays in zip(ids, stays_N.tolist(), strict=True) if stays]
