"""A slow round: makes the next encoder and its fast head in small units of work, while the current encoder serves.

    TrainedEncoder: plan --> (PSEUDO_LABEL) --> TRAIN, a step a unit --.
    OfferedEncoder: offer, stored blobs -------------------------------+--> STORE: an empty fast head under the encoder
    --> READ the replay buffer --> REBUILD the fast head --> (CARRY_OVER) --> MEASURE --> COMPARE --> (TRIAL)
    --> CATCH_UP --> DONE

The next encoder has one of two sources: the round trains it, or an operator offers it. From STORE on, both are treated
alike.

**Kinds of rounds.** A round starts after a number of labels. If no label comes for a while, a rehearsal trains in two
passes over the replay buffer (CLINC150 gains 0.9 points). If most texts have no label, two further rounds train on
pseudo-labels (`learner.rounds.schedule`).

**Determinism.** All batches are drawn when the round begins, and token dropout is seeded. So a round is a function of
its plan, its initial class means and its encoder. A checkpoint contains these, and a restart repeats the round. An
offer stays open until it is decided, so after a restart its round begins again.

**Meanwhile.** The current encoder is served, and the current fast head goes on learning. Both heads learn the labels
that come while the next head is rebuilt. The trial compares the two heads on these labels (`learner.rounds.trial`). It
ends as soon as the rollout would promote the next encoder at once. An offered encoder is refused for the same reasons
for which the gate would refuse its first version, compared with the current encoder and with the anchor.

**Threads.** Units run in a worker thread (`learner.rounds.worker`). A unit uses only its round and its arguments: the
learner's thread reads the replay buffer, and new labels wait for the next unit. So the result of a round is the same,
bit for bit, whenever its units end.
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
from learner.quality.evaluation import MeasuredCandidate, head_on_holdout, measure_heads
from learner.quality.gate import GateLimits, is_worse, may_adopt, refusals
from learner.rounds.next_head import NextHead, do_nothing
from learner.rounds.plan import RoundPlan
from learner.rounds.training import PseudoLabels, Training
from learner.rounds.trial import AdoptionRule, Trial
from learner.rounds.worker import INLINE, Units
from learner.samples import Labelled
from learner.state.parts import make_fast_head
from model.packed import WholeEncoder
from wire.records import EncoderOffer, PrecisionEvaluation

SourceUnits: TypeAlias = Generator[Callable[[], Any], Any, FastHead]
"""Yields units, receives the result of each, and returns the empty fast head of the next encoder."""


class Phase(Enum):
    """The phase of a round. The values are part of the learner's reports."""

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
    """The next encoder of a round that trains: a copy of the encoder `strata`, trained on the batches of `plan`.

    `served` is the quantized form of `strata`. `means_CD` are the class means from which the auxiliary head starts.
    """

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

    def units(self) -> SourceUnits:
        """Yields the units of work that make the encoder; returns an empty fast head under it."""
        while not self._pseudo_labels.is_done:
            yield partial(self._pseudo_labels.step, self._served)
        self.phase = Phase.TRAIN
        for step in self.plan.steps:
            yield partial(self._training.step, step)
        self.phase = Phase.STORE
        stored: FastHead = yield self._quantize
        return stored

    @property
    def strata(self) -> WholeEncoder:
        """The encoder that is being trained, in full precision."""
        return self._training.strata

    @property
    def excluded(self) -> set[Labelled]:
        """The samples that training has excluded so far."""
        return self._training.excluded

    @property
    def losses(self) -> list[float]:
        """The loss of each gradient step so far."""
        return self._training.losses

    @property
    def progress(self) -> float:
        """The completed share of the current phase, in [0, 1]."""
        if self.phase is Phase.PSEUDO_LABEL:
            return self._pseudo_labels.progress
        return len(self.losses) / max(len(self.plan.steps), 1)

    def _quantize(self) -> FastHead:
        """Quantizes the trained encoder; returns an empty fast head under it."""
        top = export_encoder(self.strata, first_layer=self._training.first_layer)
        return make_fast_head(self._config, self._served.with_top(top))


@dataclass(slots=True, kw_only=True)
class OfferedEncoder:
    """The next encoder of a round that decides on an operator's offer.

    - `take`: fetches and checks the offered encoder; may raise OfferRefused.
    - `refusals`: the reasons against the encoder. None until the decision; empty if the encoder was adopted.
    - `holdout_result`, `trial_result`: compare it with the current encoder, on the holdout and on the trial's labels.
    """

    offer: EncoderOffer
    take: Callable[[], BaseEncoder]
    phase: Phase = Phase.STORE
    progress: float = 0.0
    refusals: tuple[str, ...] | None = None
    holdout_result: Paired = field(default_factory=Paired)
    trial_result: Paired = field(default_factory=Paired)
    _base: BaseEncoder | None = None

    def units(self) -> SourceUnits:
        """Yields the only unit of work, which fetches the encoder; returns an empty fast head under it."""
        base: BaseEncoder = yield self.take
        self._base = base
        return make_fast_head(base.config, base.served)

    @property
    def base(self) -> BaseEncoder:
        """The offered encoder. It must have been taken."""
        assert self._base is not None, "the offered encoder was not taken yet"
        return self._base

    @property
    def strata(self) -> WholeEncoder:
        """The offered encoder in full precision."""
        return self.base.strata

    @property
    def limits(self) -> GateLimits:
        """The limits of the gate for this offer."""
        return GateLimits.of(self.base.config, max_loss=self.offer.max_loss)

    def settle(self, refusals: tuple[str, ...], holdout_result: Paired, trial_result: Paired) -> None:
        """Records the decision about the offer."""
        self.refusals = refusals
        self.holdout_result = holdout_result
        self.trial_result = trial_result


EncoderSource: TypeAlias = TrainedEncoder | OfferedEncoder


class SlowRound:
    """A slow round. Each call of `step` begins a unit of work, until the phase is DONE.

    - `source`: makes the next encoder.
    - `next_fast_head`: the fast head under the next encoder.
    - `holdout_result`, `trial`: compare the next fast head with the current one, on the holdout and on new labels.
    - `rule`: decides the trial. Without a rule there is no trial.

    Only the learner's thread may call the methods. While a unit runs, it may read `phase`, `progress`, the encoder of
    `next_fast_head`, and the plan and class means of `source`. All other methods wait for the unit.
    """

    def __init__(
        self,
        source: EncoderSource,
        fast_head: FastHead,
        replay: Replay[Labelled],
        holdout: Holdout,
        *,
        anchor: Anchor | None = None,
        config: LearnerConfig,
        rule: AdoptionRule | None = None,
    ) -> None:
        self.source = source
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
        # The first `send` to a generator must be None.
        self._under_way.set_result(None)

    def step(self, executor: Executor = INLINE, *, may_wait: bool = True) -> Phase:
        """Begins the next unit of work in `executor`, unless a unit is running. Returns the phase.

        If `may_wait` is False, the round ends without a trial, since the labels for it may never come.

        Raises the error of the previous unit. Then the caller must drop the round:

        - NonFinite if training has diverged,
        - DataError if a strategy fails,
        - OfferRefused if an offered encoder cannot be taken.
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
        """The current phase. Until the next encoder is made, it is the phase of `source`."""
        return self._phase or self.source.phase

    @property
    def trained(self) -> TrainedEncoder | None:
        """The source of a round that trains, with its plan; None for an offer."""
        return self.source if isinstance(self.source, TrainedEncoder) else None

    @property
    def number(self) -> int:
        """The number of a round that trains; 0 for an offer."""
        return self.trained.plan.number if self.trained else 0

    @property
    def holdout_result(self) -> Paired:
        """The comparison of the next fast head with the current one on the holdout."""
        return self.measured.parent.overall

    @property
    def is_ready(self) -> bool:
        """Whether no unit is running."""
        return self._under_way.done()

    @property
    def has_work(self) -> bool:
        """Whether a unit is running, or `step` can begin one."""
        return not (self.is_ready and self._waits_for_labels)

    def is_adoptable(self, *, is_complete: bool) -> bool:
        """Returns whether the next encoder may be adopted: by its trial if that has a result, or by the holdout.

        `is_complete`: whether the replay buffer has every sample that the current fast head has learnt.
        """
        if isinstance(self.source, OfferedEncoder):
            return not self.refusals
        # A trial with a result is better evidence than the holdout.
        if self.trial is not None and (self.trial.is_won or self.trial.is_lost):
            return self.trial.is_won
        return may_adopt(self.holdout_result.lost, self.holdout_result.won, is_complete=is_complete)

    @property
    def refusals(self) -> tuple[str, ...]:
        """The gate's reasons against an offered encoder, by the holdout and by its trial."""
        if not isinstance(self.source, OfferedEncoder):
            return ()
        limits = self.source.limits
        best = PrecisionEvaluation(name=self.next_fast_head.served.precisions[0])
        reasons = refusals(self.measured, best, limits)
        trial = Comparison(overall=self.trial_result.paired)
        if is_worse(trial, [trial.overall], limits):
            reasons.append("worse_on_trial")
        return tuple(reasons)

    @property
    def trial_result(self) -> EncoderTrial:
        """The result of the trial of the next encoder; empty counts without a trial."""
        return EncoderTrial(self._served.key, self.trial.paired if self.trial else Paired())

    def wait(self) -> None:
        """Waits until no unit is running. The next `step` raises the unit's error."""
        wait([self._under_way])

    @property
    def next_fast_head(self) -> FastHead:
        """The fast head that is being rebuilt; the current fast head before READ."""
        return self._next.head if self._next else self._fast_head

    def learn_meanwhile(self, samples: Sequence[Labelled], *, unlearnt: Sequence[Labelled] = ()) -> None:
        """Passes samples that the current head has just learnt or unlearnt to the next head, too.

        The next unit applies them. Before READ there is nothing to do, since the replay buffer already contains the
        change. If samples come faster than the units learn them, waits for the running unit, and then learns some of
        the waiting samples at once.
        """
        if self._next is not None:
            self._next.add_waiting(samples, unlearnt=unlearnt)
            if self._next.is_full:
                self.wait()
                self._next.unit(do_nothing)()

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """Replaces the class `old` by the class `new` in the next head, too (see `FastHead.evict`).

        Waits for the running unit.
        """
        if self._next is not None:
            self.wait()
            self._next.learn_waiting()
            self._next.evict(samples, old, new)

    @property
    def progress(self) -> float:
        """The completed share of the phase, in [0, 1]."""
        if self._phase is None:
            return self.source.progress
        if self.phase is Phase.TRIAL and self.trial is not None:
            return self.trial.progress
        return self._next.progress if self._next else 1.0

    @property
    def _waits_for_labels(self) -> bool:
        """Whether a trial waits for labels. Only valid while no unit is running."""
        trial = self.trial
        return self._has_trial and trial is not None and not trial.is_over and not trial.is_due

    def _all_units(self) -> Units:
        """Yields all units of work. Between two units, the learner's thread runs this code while no unit is running."""
        stored = yield from self.source.units()
        self._phase = Phase.READ
        # After this empty unit the caller records the offsets, and then the replay buffer is read.
        yield do_nothing
        self._next = NextHead(self._fast_head, stored, self._replay.samples(), unit=self._config.rebuild_batch)
        yield from self._rebuild(self._next)
        yield from self._measure(self._next)
        yield from self._try(self._next)
        self._phase = Phase.CATCH_UP
        yield from self._next.catch_up()

    def _rebuild(self, next_head: NextHead) -> Units:
        self._phase = Phase.REBUILD
        while next_head.has_memory:
            yield next_head.unit(next_head.rebuild)
        self._phase = Phase.CARRY_OVER
        while next_head.has_rest:
            yield next_head.unit(next_head.carry_over)

    def _measure(self, next_head: NextHead) -> Units:
        """Encodes the holdout samples by both encoders, then compares the predictions of both heads."""
        self._phase = Phase.MEASURE
        holdout = self._holdout
        for served in (self._served, next_head.head.served):
            for precision in served.precisions:
                # Each unit encodes some of the texts whose vectors are not known yet.
                while texts := holdout.unencoded(served, precision)[: self._config.rebuild_batch]:
                    z_ND = yield next_head.unit(partial(served.z_many, texts, precision))
                    holdout.add_vectors(served, precision, texts, z_ND)
        self._phase = Phase.COMPARE
        # There may be new classes. For the comparison both heads must have the same rows.
        next_head.admit()
        old = head_on_holdout(self._fast_head, holdout, self._fast_head.solver())
        new = head_on_holdout(next_head.head, holdout, next_head.head.solve)
        self.measured = yield next_head.unit(partial(measure_heads, new, old, self._anchor))

    def _try(self, next_head: NextHead) -> Units:
        """Compares both heads on new labels, if the holdout alone does not decide."""
        if self._rule is None or not self._has_trial or self.refusals:
            return
        self._phase = Phase.TRIAL
        self.trial = Trial(
            self._fast_head,
            next_head,
            holdout_result=self.holdout_result,
            max_labels=self._config.trial_labels,
            rule=self._rule,
        )
        while self._has_trial and not self.trial.is_over:
            yield self.trial.unit()
