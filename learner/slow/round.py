"""A slow round: training beside the published encoder, one small unit of work at a time.

    plan: all batches --> (PSEUDO_LABEL) --> TRAIN, a step a unit --> STORE the encoder --> READ the memory
                      --> REBUILD the fast head --> (CARRY_OVER) --> MEASURE --> COMPARE --> (TRIAL) --> CATCH_UP
                      --> DONE

A round starts after a number of labels. When labels stay away, one more goes over the memory twice (a rehearsal:
CLINC150 gains 0.9 points). Where most texts have no label, two more train on pseudo-labels. All batches are drawn at
the start, and what is dropped by a seed. So what a round learns is a function of its plan, the class means that it
starts from, and the encoder: a checkpoint holds these, and a restart repeats it. Meanwhile the published encoder
serves, and the fast head learns under it; labels that come while the next one is rebuilt are learnt under both. A
trial of both by these labels (`learner.slow.trial`) ends when the rollout would make the next one stable at once.

Units run beside the learner's thread (`learner.slow.worker`). A unit touches nothing but its round and what it was
given: the memory is read in the learner's thread, and labels that come meanwhile wait for the next unit. So what a
round makes is the same, bit for bit, whenever its units end.

Rejected: the state of the optimizer in the checkpoint (two numbers for each trained weight), and several units at once
(each begins from what the one before has made).
"""

from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from enum import Enum
from functools import partial
from typing import Any

from torch import Tensor

from learner.config import LearnerConfig
from learner.export import export_encoder
from learner.fast.fast_head import FastHead
from learner.memory.holdout import Holdout
from learner.memory.replay import Labelled, Replay
from learner.quality.comparison import EncoderTrial, Paired
from learner.quality.evaluation import compare_heads, on_holdout
from learner.quality.gate import may_adopt
from learner.slow.next_head import NextHead, do_nothing
from learner.slow.pseudo_labels import PseudoLabels
from learner.slow.schedule import RoundPlan
from learner.slow.training import Training
from learner.slow.trial import Trial
from learner.slow.worker import INLINE, Units
from model.strata import Strata


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
    TRIAL = "trial"
    CATCH_UP = "catch_up"
    DONE = "done"


class SlowRound:
    """One round. `step` begins a unit; at DONE, `strata` and `next_fast_head` are what the round has made.

    `held` compares the next fast head with the current one on the holdout, `trial` on the labels since. The round
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
        self._pseudo_labels = PseudoLabels(plan.unlabelled, means_CD, unit=config.rebuild_batch)
        self.phase = Phase.TRAIN if self._pseudo_labels.is_done else Phase.PSEUDO_LABEL
        self._fast_head = fast_head
        self._served = fast_head.served
        self._replay = replay
        self._holdout = holdout
        self._training = Training(plan, means_CD, self._pseudo_labels, self._served, strata, config=config)
        self._next: NextHead | None = None
        self.held = Paired()
        self.trial: Trial | None = None
        self._has_trial = config.trial_labels > 0
        self._config = config
        self._units = self._all_units()
        self._under_way = Future[Any]()
        self._under_way.set_result(None)

    def step(self, executor: Executor = INLINE, *, may_wait: bool = True) -> Phase:
        """Begins the next unit of work, unless one is under way. Returns the phase.

        Unless it `may_wait` for labels, which perhaps never come, the round ends without a trial.

        Raises what the last unit has raised: NonFinite when training has led nowhere, and DataError when a strategy
        fails. Drop the round in either case.
        """
        self._has_trial &= may_wait
        if self.is_ready and not self._waits_for_labels:
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

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do, or a unit is under way."""
        return not (self.is_ready and self._waits_for_labels)

    def is_adoptable(self, *, is_complete: bool) -> bool:
        """Whether the next encoder is good enough, by its trial, or else by the holdout.

        `is_complete`: whether the memory holds all that the current fast head has learnt.
        """
        if self.trial is not None and (self.trial.is_won or self.trial.is_lost):
            return self.trial.is_won
        return may_adopt(self.held.lost, self.held.won, is_complete=is_complete)

    @property
    def tried(self) -> EncoderTrial:
        """How the next encoder did in its trial, if it had one."""
        return EncoderTrial(self._served.key, self.trial.paired if self.trial else Paired())

    def wait(self) -> None:
        """Waits for the unit under way, if there is one. What it raises, the next `step` raises."""
        wait([self._under_way])

    @property
    def strata(self) -> Strata:
        """The encoder in training."""
        return self._training.strata

    @property
    def losses(self) -> list[float]:
        """The loss of each gradient step so far."""
        return self._training.losses

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
        if self.phase is Phase.TRIAL and self.trial is not None:
            return self.trial.progress
        return self._next.progress if self._next else 1.0

    @property
    def _waits_for_labels(self) -> bool:
        """Whether a trial needs labels that have not come; only of use while no unit is under way."""
        trial = self.trial
        return self._has_trial and trial is not None and not trial.is_over and not trial.is_due

    def _all_units(self) -> Units:
        """Yields every unit. What stands between two of them runs in the learner's thread, while no unit does."""
        while not self._pseudo_labels.is_done:
            yield partial(self._pseudo_labels.step, self._served)
        self.phase = Phase.TRAIN
        for step in self.plan.steps:
            yield partial(self._training.step, step)
        self.phase = Phase.STORE
        stored = yield self._store
        self.phase = Phase.READ
        yield do_nothing  # so that the caller can note the offsets before the memory is read
        self._next = NextHead(self._fast_head, stored, self._replay.samples(), unit=self._config.rebuild_batch)
        yield from self._rebuild(self._next)
        yield from self._measure(self._next)
        yield from self._try(self._next)
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
        self.held = yield following.unit(partial(compare_heads, old, new))

    def _try(self, following: NextHead) -> Units:
        """Compares both heads on new labels, if the holdout alone says too little."""
        if not self._has_trial:
            return
        self.phase = Phase.TRIAL
        self.trial = Trial(self._fast_head, following, held=self.held, max_labels=self._config.trial_labels)
        while self._has_trial and not self.trial.is_over:
            yield self.trial.unit()

    def _store(self) -> FastHead:
        """Returns an empty fast head under the encoder that was trained, as it will be served."""
        top = export_encoder(self.strata, first_layer=self._training.first_layer)
        return FastHead(self._served.with_top(top), penalty=self._config.ridge, num_recent=self._config.recent_labels)
