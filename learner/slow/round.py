"""A slow round: training beside the published encoder, one small unit of work at a time.

    plan: all batches --> (PSEUDO_LABEL) --> TRAIN, a step a unit --> STORE the encoder --> READ the memory
                      --> REBUILD the fast head --> (CARRY_OVER) --> MEASURE --> COMPARE --> CATCH_UP --> DONE

A round starts after a number of labels. When labels stay away, one more goes over the memory twice (a rehearsal:
CLINC150 gains 0.9 points). Where most texts have no label, two more train on pseudo-labels. All batches are drawn at
the start, and what is dropped by a seed. So what a round learns is a function of its plan, the class means that it
starts from, and the encoder: a checkpoint holds these, and a restart repeats it. Meanwhile the published encoder
serves, and the fast head learns under it; labels that come while the next one is rebuilt are learnt under both.

Units run beside the learner's thread (`learner.slow.worker`). A unit touches nothing but its round and what it was
given: the memory is read in the learner's thread, and labels that come meanwhile wait for the next unit. So what a
round makes is the same, bit for bit, whenever its units end.

Rejected: the state of the optimizer in the checkpoint (two numbers for each trained weight), and several units at once
(each begins from what the one before has made).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait
from enum import Enum
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from learner.config import LearnerConfig, is_import_path
from learner.export import export_encoder
from learner.failpoints import failpoint
from learner.fast.fast_head import FastHead
from learner.memory.holdout import Holdout
from learner.memory.replay import Labelled, Replay
from learner.quality.evaluation import lost_and_won, on_holdout
from learner.slow.next_head import NextHead, do_nothing
from learner.slow.pseudo_labels import PseudoLabels
from learner.slow.schedule import RoundPlan, StepPlan
from learner.slow.trainer import Trainer, with_own_top
from learner.slow.worker import INLINE, Units
from model.ragged import RaggedLayout
from model.strata import Strata

if TYPE_CHECKING:
    from learner.slow.avalanche.trainer import AvalancheTrainer


class Phase(Enum):
    """What the unit of a round does that was begun last. The values are part of the learner's reports."""

    PSEUDO_LABEL = "pseudo_label"
    TRAIN = "train"
    STORE = "store"
    READ = "read"
    REBUILD = "rebuild"
    CARRY_OVER = "carry_over"
    MEASURE = "measure"
    COMPARE = "compare"
    CATCH_UP = "catch_up"
    DONE = "done"


class SlowRound:
    """One round. `step` begins a unit; at DONE, `strata` and `next_fast_head` are what the round has made.

    `lost` and `won` count the holdout samples that only the current or only the next fast head names rightly. The round
    belongs to the learner's thread. While a unit is under way, `plan`, `means_CD`, `phase`, `progress` and the encoder
    of `next_fast_head` may be read; whatever else is called waits for the unit.
    """

    def __init__(
        self,
        plan: RoundPlan,
        means_CD: Tensor,
        fast_head: FastHead,
        strata: Strata,
        replay: Replay[Labelled],
        holdout: Holdout,
        *,
        config: LearnerConfig,
    ) -> None:
        self.plan = plan
        self.means_CD = means_CD
        self.losses = list[float]()
        self._pseudo_labels = PseudoLabels(plan.unlabelled, means_CD, unit=config.rebuild_batch)
        self.phase = Phase.TRAIN if self._pseudo_labels.is_done else Phase.PSEUDO_LABEL
        self._fast_head = fast_head
        self._served = fast_head.served
        self._replay = replay
        self._holdout = holdout
        rng = np.random.default_rng([config.seed, plan.number])
        self._token_dropout = partial(token_dropout, share=config.slow_token_dropout, rng=rng)
        self._first_layer = strata.config.n_layers - config.trainable_layers
        self.strata = with_own_top(strata, self._first_layer)
        self._next: NextHead | None = None
        self.lost = 0
        self.won = 0
        self._rows = {label: row for row, label in enumerate(plan.labels)}
        self._parent = strata
        self._config = config
        self._units = self._all_units()
        self._under_way = Future[Any]()
        self._under_way.set_result(None)

    def step(self, executor: Executor = INLINE) -> Phase:
        """Begins the next unit of work, unless one is under way. Returns the phase.

        Raises what the last unit has raised: NonFinite when training has led nowhere, and DataError when a strategy
        fails. Drop the round in either case.
        """
        if self.is_ready:
            result = self._under_way.result()
            try:
                self._under_way = executor.submit(self._units.send(result))
            except StopIteration:
                self.phase = Phase.DONE
        return self.phase

    @property
    def is_ready(self) -> bool:
        """Whether no unit is under way."""
        return self._under_way.done()

    def wait(self) -> None:
        """Waits for the unit under way, if there is one. What it raises, the next `step` raises."""
        wait([self._under_way])

    @property
    def next_fast_head(self) -> FastHead:
        """The fast head in the making; the current one before the memory was read."""
        return self._next.head if self._next else self._fast_head

    def learn_meanwhile(self, samples: Sequence[Labelled], *, unlearnt: Sequence[Labelled] = ()) -> None:
        """Takes samples that came meanwhile, and that were taken out: the next unit does so to the next head, too.

        Before the memory is read nothing has to be done, since it is that of the current head. Where more comes than
        units take, some of what waits is done at once, when the unit under way has ended.
        """
        if self._next is not None:
            self._next.add_waiting(samples, unlearnt=unlearnt)
            if self._next.is_full:
                self.wait()
                self._next.unit(do_nothing)()

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """Takes a class, which is `samples`, out of the next head too, when the unit under way has ended."""
        if self._next is not None:
            self.wait()
            self._next.learn_waiting()
            self._next.evict(samples, old, new)

    @property
    def progress(self) -> float:
        """The share of the phase that is done, in [0, 1]."""
        if self.phase is Phase.PSEUDO_LABEL:
            return self._pseudo_labels.progress
        if self.phase is Phase.TRAIN:
            return len(self.losses) / max(len(self.plan.steps), 1)
        return self._next.progress if self._next else 1.0

    def _all_units(self) -> Units:
        """Yields every unit. What stands between two of them runs in the learner's thread, while no unit does."""
        while not self._pseudo_labels.is_done:
            yield partial(self._pseudo_labels.step, self._served)
        self.phase = Phase.TRAIN
        for step in self.plan.steps:
            yield partial(self._train, step)
        self.phase = Phase.STORE
        stored = yield self._store
        self.phase = Phase.READ
        yield do_nothing  # so that the caller can note the offsets before the memory is read
        self._next = NextHead(self._fast_head, stored, self._replay.samples(), unit=self._config.rebuild_batch)
        yield from self._rebuild(self._next)
        yield from self._measure(self._next)
        self.phase = Phase.CATCH_UP
        yield from self._next.catch_up()

    def _rebuild(self, following: NextHead) -> Units:
        self.phase = Phase.REBUILD
        while following.has_memory:
            yield following.unit(following.rebuild)
        self.phase = Phase.CARRY_OVER
        while following.has_rest:
            yield following.unit(following.carry_over)

    def _measure(self, following: NextHead) -> Units:
        """Encodes the holdout samples by both encoders, then compares what both heads name."""
        self.phase = Phase.MEASURE
        holdout = self._holdout
        for served in (self._served, following.head.served):
            for precision in served.precisions:
                while texts := holdout.unencoded(served, precision)[: self._config.rebuild_batch]:
                    z_ND = yield following.unit(partial(served.z_many, texts, precision))
                    holdout.add_vectors(served, precision, texts, z_ND)
        self.phase = Phase.COMPARE
        following.admit()
        old = on_holdout(self._fast_head, holdout, self._fast_head.solver())
        new = on_holdout(following.head, holdout, following.head.solve)
        self.lost, self.won = yield following.unit(partial(lost_and_won, old, new))

    def _train(self, step: StepPlan) -> None:
        x_TD, layout, rows_B = self._inputs(step.samples, drop_tokens=self._token_dropout)
        sizes = [len(part) for part in (step.fresh, *step.draws)]
        self.losses.append(self._trainer.step(x_TD, layout, rows_B, sizes))
        failpoint("after-slow-step")

    def _store(self) -> FastHead:
        """Returns an empty fast head under the encoder that was trained, as it will be served."""
        top = export_encoder(self.strata, first_layer=self._first_layer)
        return FastHead(self._served.with_top(top), penalty=self._config.ridge, num_recent=self._config.recent_labels)

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
            max_tokens=self._served.tokenizer.max_tokens,
            config=config,
        )

    def _inputs(
        self, samples: Sequence[Labelled], *, drop_tokens: Callable[[list[int]], list[int]] = list
    ) -> tuple[Tensor, RaggedLayout, Tensor]:
        """Returns the activations below the trained blocks, their layout, and the row of each sample's class."""
        texts = [sample.text for sample in samples]
        x_TD, layout = self._served.prefix(texts, self._first_layer, drop_tokens=drop_tokens)
        return x_TD, layout, torch.tensor([self._row_of(sample) for sample in samples])

    def _row_of(self, sample: Labelled) -> int:
        return self._rows[sample.label] if sample.label else self._pseudo_labels.rows[sample.text]


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
