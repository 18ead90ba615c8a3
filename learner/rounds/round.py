"""A slow round: training beside the published encoder, one small unit of work at a time.

    TrainedEncoder: plan --> (PSEUDO_LABEL) --> TRAIN, a step a unit --.
    OfferedEncoder: offer, blobs that were stored ---------------------+--> STORE: an empty fast head under the encoder
    --> READ the memory --> REBUILD the fast head --> (CARRY_OVER) --> MEASURE --> COMPARE --> (TRIAL) --> CATCH_UP
    --> DONE

The encoder is trained, or was offered by an operator; from STORE on both go the same way.

A round starts after a number of labels. When labels stay away, one more goes over the memory twice (a rehearsal:
CLINC150 gains 0.9 points). If most texts have no label, two more train on pseudo-labels. All batches are drawn at
the start, and what is dropped by a seed. So what a round learns is a function of its plan, the class means that it
starts from, and the encoder: a checkpoint holds these, and a restart repeats it. An offer is open until it is decided
on, so a restart begins it again. Meanwhile the published encoder serves, and the fast head learns under it; labels that
come while the next one is rebuilt are learnt under both. A trial of both by these labels (`learner.rounds.trial`) ends
when the rollout would make the next one stable at once. An encoder that was offered is refused for what the gate would
refuse its first version for: beside the encoder in use, and beside the anchor.

Units run beside the learner's thread (`learner.rounds.worker`). A unit touches nothing but its round and what it was
given: the memory is read in the learner's thread, and labels that come meanwhile wait for the next unit. So what a
round makes is the same, bit for bit, whenever its units end.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from learner.config import LearnerConfig
from learner.encoder.base import BaseEncoder
from learner.encoder.served import ServedEncoder, export_encoder
from learner.fast.fast_head import FastHead
from learner.memory import Holdout, Replay
from learner.quality.comparison import Anchor, Comparison, EncoderTrial, Paired
from learner.quality.evaluation import MeasuredCandidate, measure_heads, on_holdout
from learner.quality.gate import GateLimits, is_worse, may_adopt, refusals
from learner.rounds.next_head import NextHead, do_nothing
from learner.rounds.plan import RoundPlan
from learner.rounds.training import PseudoLabels, Training
from learner.rounds.trial import AdoptionRule, Trial
from learner.rounds.worker import INLINE, Units
from learner.samples import Labelled
from learner.state.parts import fast_head_of
from model.packed import WholeEncoder
from wire.records import EncoderOffer, PrecisionEvaluation

Making: TypeAlias = Generator[Callable[[], Any], Any, FastHead]
"""Yields units, gets back what each has returned, and returns the empty fast head of the next encoder."""


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


class TrainedEncoder:
    """Trains a copy of `strata`, which is served as `served`, by `plan`, from the class means `means_CD` on."""

    def __init__(
        self, plan: RoundPlan, means_CD: Tensor, served: ServedEncoder, strata: WholeEncoder, *, config: LearnerConfig
    ) -> None:
        self.plan = plan
        self.means_CD = means_CD
        self._served = served
        self._config = config
        self._pseudo_labels = PseudoLabels(plan.unlabelled, means_CD, unit=config.rebuild_batch)
        self._training = Training(plan, means_CD, self._pseudo_labels, served, strata, config=config)
        self.phase = Phase.TRAIN if self._pseudo_labels.is_done else Phase.PSEUDO_LABEL

    def units(self) -> Making:
        """Yields every unit."""
        while not self._pseudo_labels.is_done:
            yield partial(self._pseudo_labels.step, self._served)
        self.phase = Phase.TRAIN
        for step in self.plan.steps:
            yield partial(self._training.step, step)
        self.phase = Phase.STORE
        stored: FastHead = yield self._store
        return stored

    @property
    def strata(self) -> WholeEncoder:
        """The encoder in training."""
        return self._training.strata

    @property
    def apart(self) -> set[Labelled]:
        """The samples that training has set apart so far."""
        return self._training.apart

    @property
    def losses(self) -> list[float]:
        """The loss of each gradient step so far."""
        return self._training.losses

    @property
    def progress(self) -> float:
        """The share of the phase that is done, in [0, 1]."""
        if self.phase is Phase.PSEUDO_LABEL:
            return self._pseudo_labels.progress
        return len(self.losses) / max(len(self.plan.steps), 1)

    def _store(self) -> FastHead:
        """Returns an empty fast head under the encoder that was trained, as it will be served."""
        top = export_encoder(self.strata, first_layer=self._training.first_layer)
        return fast_head_of(self._config, self._served.with_top(top))


@dataclass(slots=True, kw_only=True)
class OfferedEncoder:
    """Takes the encoder of `offer` into use. `take` fetches and checks it, and may raise OfferRefused.

    `refusals` are the reasons against it, once it is decided on; empty where it was adopted. `held` and `tried` are
    how it did beside the encoder in use, on the holdout and on the labels of its trial.
    """

    offer: EncoderOffer
    take: Callable[[], BaseEncoder]
    phase: Phase = Phase.STORE
    progress: float = 0.0
    refusals: tuple[str, ...] | None = None
    held: Paired = field(default_factory=Paired)
    tried: Paired = field(default_factory=Paired)
    _base: BaseEncoder | None = None

    def units(self) -> Making:
        """Yields the one unit."""
        base: BaseEncoder = yield self.take
        self._base = base
        return fast_head_of(base.config, base.served)

    @property
    def base(self) -> BaseEncoder:
        """The encoder, when it was taken."""
        assert self._base is not None, "it was not taken yet"
        return self._base

    @property
    def strata(self) -> WholeEncoder:
        """The same in full precision."""
        return self.base.strata

    @property
    def limits(self) -> GateLimits:
        """What it must reach."""
        return GateLimits.of(self.base.config, max_loss=self.offer.max_loss)

    def settle(self, refusals: tuple[str, ...], held: Paired, tried: Paired) -> None:
        """Takes note of the decision."""
        self.refusals = refusals
        self.held = held
        self.tried = tried


NextEncoder: TypeAlias = TrainedEncoder | OfferedEncoder


class SlowRound:
    """One round. `step` begins a unit; at DONE, `making` and `next_fast_head` have what the round has made.

    `held` compares the next fast head with the current one on the holdout, `trial` on the labels since; without a
    `rule` there is no trial. The round belongs to the learner's thread. While a unit is under way, `phase`, `progress`,
    the encoder of `next_fast_head`, and plan and means of `making` may be read; whatever else is called waits for the
    unit.
    """

    def __init__(
        self,
        making: NextEncoder,
        fast_head: FastHead,
        replay: Replay[Labelled],
        holdout: Holdout,
        *,
        anchor: Anchor | None = None,
        config: LearnerConfig,
        rule: AdoptionRule | None = None,
    ) -> None:
        self.making = making
        self._phase: Phase | None = None
        self._fast_head = fast_head
        self._served = fast_head.served
        self._replay = replay
        self._holdout = holdout
        self._anchor = anchor
        self._next: NextHead | None = None
        self.measured = MeasuredCandidate()
        self.trial: Trial | None = None
        self._rule = rule
        self._has_trial = config.trial_labels > 0
        self._config = config
        self._units = self._all_units()
        self._under_way = Future[Any]()
        self._under_way.set_result(None)

    def step(self, executor: Executor = INLINE, *, may_wait: bool = True) -> Phase:
        """Begins the next unit of work, unless one is under way. Returns the phase.

        Unless it `may_wait` for labels, which perhaps never come, the round ends without a trial.

        Raises what the last unit has raised: NonFinite when training has led nowhere, DataError when a strategy fails,
        OfferRefused when an offer cannot be taken. Drop the round in any case.
        """
        self._has_trial &= may_wait
        if self.is_ready and not self._waits_for_labels:
            result = self._under_way.result()
            try:
                self._under_way = executor.submit(self._units.send(result))
            except StopIteration:
                self._phase = Phase.DONE
        return self.phase

    @property
    def phase(self) -> Phase:
        """The phase: that of `making`, until the encoder is made."""
        return self._phase or self.making.phase

    @property
    def trained(self) -> TrainedEncoder | None:
        """What is made, where that is trained: it has the plan of the round."""
        return self.making if isinstance(self.making, TrainedEncoder) else None

    @property
    def number(self) -> int:
        """The number of a round that trains; 0 for another."""
        return self.trained.plan.number if self.trained else 0

    @property
    def held(self) -> Paired:
        """The current fast head beside the next one on the holdout."""
        return self.measured.parent.overall

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
        if isinstance(self.making, OfferedEncoder):
            return not self.refusals
        if self.trial is not None and (self.trial.is_won or self.trial.is_lost):
            return self.trial.is_won
        return may_adopt(self.held.lost, self.held.won, is_complete=is_complete)

    @property
    def refusals(self) -> tuple[str, ...]:
        """The reasons of the gate against an encoder that was offered, by the holdout and by its trial."""
        if not isinstance(self.making, OfferedEncoder):
            return ()
        limits = self.making.limits
        best = PrecisionEvaluation(name=self.next_fast_head.served.precisions[0])
        found = refusals(self.measured, best, limits)
        tried = Comparison(overall=self.tried.paired)
        if is_worse(tried, [tried.overall], limits):
            found.append("worse_on_trial")
        return tuple(found)

    @property
    def tried(self) -> EncoderTrial:
        """How the next encoder did in its trial, if it had one."""
        return EncoderTrial(self._served.key, self.trial.paired if self.trial else Paired())

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
        if self._phase is None:
            return self.making.progress
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
        stored = yield from self.making.units()
        self._phase = Phase.READ
        yield do_nothing  # so that the caller can note the offsets before the memory is read
        self._next = NextHead(self._fast_head, stored, self._replay.samples(), unit=self._config.rebuild_batch)
        yield from self._rebuild(self._next)
        yield from self._measure(self._next)
        yield from self._try(self._next)
        self._phase = Phase.CATCH_UP
        yield from self._next.catch_up()

    def _rebuild(self, following: NextHead) -> Units:
        self._phase = Phase.REBUILD
        while following.has_memory:
            yield following.unit(following.rebuild)
        self._phase = Phase.CARRY_OVER
        while following.has_rest:
            yield following.unit(following.carry_over)

    def _measure(self, following: NextHead) -> Units:
        """Encodes the holdout samples by both encoders, then compares what both heads name."""
        self._phase = Phase.MEASURE
        holdout = self._holdout
        for served in (self._served, following.head.served):
            for precision in served.precisions:
                while texts := holdout.unencoded(served, precision)[: self._config.rebuild_batch]:
                    z_ND = yield following.unit(partial(served.z_many, texts, precision))
                    holdout.add_vectors(served, precision, texts, z_ND)
        self._phase = Phase.COMPARE
        following.admit()
        old = on_holdout(self._fast_head, holdout, self._fast_head.solver())
        new = on_holdout(following.head, holdout, following.head.solve)
        self.measured = yield following.unit(partial(measure_heads, new, old, self._anchor))

    def _try(self, following: NextHead) -> Units:
        """Compares both heads on new labels, if the holdout alone says too little."""
        if self._rule is None or not self._has_trial or self.refusals:
            return
        self._phase = Phase.TRIAL
        self.trial = Trial(
            self._fast_head, following, held=self.held, max_labels=self._config.trial_labels, rule=self._rule
        )
        while self._has_trial and not self.trial.is_over:
            yield self.trial.unit()
