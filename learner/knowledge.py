"""Everything that was learnt from labels: encoder, fast head, replay buffer, holdout, and the slow round under way.

    samples --the class has a row--> fast head, replay buffer, fresh --begin--> slow round --step--> adopted or dropped
            --in the holdout--> holdout ------------------------------------------------------^
            --the newest labels contradict the class mean--> concept_changes --> the class restarts everywhere

A version is made from knowledge alone (`learner.release.candidate`). So an earlier version can be rebuilt from the
knowledge in its checkpoint, while the learner keeps its own (`learner.learner`).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import structlog
from torch import Tensor

from learner.config import LearnerConfig
from learner.drift import ConceptChanges
from learner.encoder.base import BaseEncoder
from learner.errors import OfferRefused, StateRefused
from learner.fast.fast_head import FastHead
from learner.fast.rows import Classes
from learner.intake.join import Join
from learner.memory import Holdout, Replay, num_trainable
from learner.progress import LearnerProgress
from learner.quality.comparison import NO_TRIAL, Anchor, EncoderTrial
from learner.quality.evaluation import MeasuredCandidate
from learner.rounds.plan import RoundPlan
from learner.rounds.round import EncoderSource, OfferedEncoder, Phase, SlowRound, TrainedEncoder
from learner.rounds.schedule import Schedule
from learner.rounds.trial import AdoptionRule
from learner.samples import Labelled
from learner.state.lineage import add_round, end_round, record_gap, set_memory_offsets
from learner.state.parts import make_classes, make_fresh_buffer
from model.errors import NonFinite
from model.kinds import DEFAULT_TEMPERATURE
from model.packed import WholeEncoder
from wire.kinds import KINDS, find_kind
from wire.label_set import LabelSet
from wire.plugins import PluginError
from wire.records import Lineage, RoundKind

log = structlog.get_logger("learner")


@dataclass(kw_only=True, slots=True)
class Knowledge:
    """Owns everything that was learnt. It belongs to the learner's thread.

    - `strata`: the current encoder in full precision. `fast_head` has it in quantized form.
    - `progress`, `counts`: shared with the learner.
    - `fresh`: the samples that were learnt since the last slow round began.
    - `labels`: the set of labels.
    - `temperature`: the temperature of the last candidate.
    - `trial`: the result of the trial in which the current encoder was compared with the one before it
      (`learner.rounds.trial`).
    - `rule`: decides from the counts of a trial whether to adopt the next encoder. Without a rule there are no trials.
    - `applied_seq`: the sequence number of the last operator command whose effect is included.
    """

    config: LearnerConfig
    base: BaseEncoder
    progress: LearnerProgress
    counts: Counter[str]
    strata: WholeEncoder
    fast_head: FastHead
    classes: Classes
    replay: Replay[Labelled]
    holdout: Holdout
    fresh: Replay[Labelled]
    concept_changes: ConceptChanges
    labels: LabelSet
    lineage: Lineage
    applied_seq: int = 0
    temperature: float = DEFAULT_TEMPERATURE
    anchor: Anchor | None = None
    trial: EncoderTrial = NO_TRIAL
    rule: AdoptionRule | None = None
    round: SlowRound | None = None

    def count_in(self, progress: LearnerProgress, counts: Counter[str]) -> None:
        """From now on counts in the `progress` and `counts` of the learner that owns this knowledge."""
        self.progress = progress
        self.counts = counts

    def begin(self, kind: RoundKind, schedule: Schedule, join: Join, offsets: Mapping[str, int], layers: int) -> None:
        """Begins a slow round, which trains the top `layers` blocks on the labels below `offsets`."""
        plan = schedule.begin(kind, self.fresh.samples(), self.replay, join, layers=layers)
        self.lineage = add_round(self.lineage, number=plan.number, kind=kind, offsets=offsets, layers=plan.layers)
        self.fresh = make_fresh_buffer(self.config)
        self.resume(plan, self.fast_head.means(plan.labels))

    def resume(self, plan: RoundPlan, means_CD: Tensor) -> None:
        """Begins the training round of `plan`. A restored learner begins its unfinished round again.

        `means_CD` are the class means when the round began for the first time.
        """
        self.consider(TrainedEncoder(plan, means_CD, self.fast_head.served, self.strata, config=self.config))

    def consider(self, source: EncoderSource) -> None:
        """Begins a round that decides whether to adopt an encoder: one that it trains, or one that was offered."""
        self.round = SlowRound(
            source,
            self.fast_head,
            self.replay,
            self.holdout,
            anchor=self.anchor,
            config=self.config,
            rule=self.rule,
        )

    def step(self, offsets: Mapping[str, int], executor: Executor, *, may_wait: bool) -> bool:
        """Begins the next unit of work of the round (see `SlowRound.step`).

        Returns True if the round has ended and its encoder was adopted.
        """
        assert self.round is not None, "no round is under way"
        if not self.round.is_ready:
            return False
        if self.round.trained and self.round.phase is Phase.READ:
            self.lineage = set_memory_offsets(self.lineage, offsets)
            self._remove_excluded(self.round.trained.excluded)
        try:
            return self.round.step(executor, may_wait=may_wait) is Phase.DONE and self._end(self.round)
        except NonFinite as error:
            log.warning("round_dropped", round=self.round.number, reason=str(error))
            self.counts["rounds_not_finite"] += 1
            self._remove_excluded(self.round.trained.excluded if self.round.trained else ())
            self.drop([str(error)])
        except OfferRefused as error:
            self.drop([] if error.may_retry else [str(error)])
        return False

    def adopt(self, done: SlowRound) -> None:
        """Adopts the encoder of a finished round, and the fast head that was learnt again under this encoder."""
        self.trial = done.trial_result
        self.fast_head = done.next_fast_head
        self.strata = done.source.strata
        self.round = None
        if isinstance(done.source, OfferedEncoder):
            done.source.settle((), done.holdout_result, done.trial_result.paired)
            self._adopt_base(done.source.base)
        else:
            self.lineage = end_round(self.lineage, is_adopted=True)

    def drop(self, refusals: Sequence[str] = ()) -> None:
        """Drops the round, and keeps the current encoder.

        `refusals` are the reasons against an offered encoder. Without reasons, the offer is tried again.
        """
        dropped = self.round
        self.round = None
        if dropped is None or dropped.trained:
            self.lineage = end_round(self.lineage, is_adopted=False)
        elif isinstance(dropped.source, OfferedEncoder) and refusals:
            dropped.source.settle(tuple(refusals), dropped.holdout_result, dropped.trial_result.paired)

    def calibrate(self, temperature: float, threshold: float = 0.0) -> None:
        """Sets the temperature, and the threshold for labels that are sets. Both were fitted for a candidate."""
        self.temperature = temperature
        self.fast_head.threshold = threshold

    def follow_anchor(self, measured: MeasuredCandidate, version: int) -> None:
        """Sets the anchor to the published version if that version is good enough to replace the current anchor."""
        self.anchor = measured.next_anchor(self.anchor, version)

    def forget_anchor(self) -> None:
        """Drops the anchor, so that the next published version becomes the anchor."""
        self.anchor = None

    def reorder(self, classes: Sequence[str]) -> None:
        """Puts the rows of the head into the order of `classes`, which names every known class."""
        self.fast_head = self.fast_head.with_order(classes)

    def break_lineage(self, gap: str) -> None:
        """Records that versions can no longer be rebuilt from the topics, and why: `gap`."""
        self.lineage = record_gap(self.lineage, gap)

    def check_kind(self, kind: str) -> None:
        """Raises StateRefused if the samples have labels of another kind."""
        samples = self.replay.samples() or self.holdout.samples.samples()
        try:
            learnt = find_kind(samples[0].label) if samples else None
        except PluginError as error:
            raise StateRefused(str(error)) from error
        if learnt is not None and learnt is not KINDS.get(kind):
            raise StateRefused(
                f"labels.kind is {kind}, but the learnt labels are of kind {learnt.name}: set it back, or start again "
                "with another learner.state_dir, store.prefix and bus.prefix"
            )

    @property
    def num_trainable(self) -> int:
        """The number of samples in the replay buffer that slow rounds may train on; 0 if no event has a text."""
        ridge = self.fast_head.ridge
        num_replay = len(self.replay) if self.progress.has_encoded else 0
        return num_trainable(num_replay, ridge.num_samples, len(ridge.classes))

    @property
    def top(self) -> dict[str, Tensor]:
        """The weights of the trained blocks, by name."""
        return self.base.top(self.strata)

    @property
    def encoder_keys(self) -> set[str]:
        """The keys of the encoders in use: the current encoder, and the new encoder of the round under way, if any."""
        heads = [self.fast_head] if self.round is None else [self.fast_head, self.round.next_fast_head]
        return {head.served.key for head in heads}

    def _adopt_base(self, base: BaseEncoder) -> None:
        """Adopts an offered encoder as the base. Drops the anchor if the operator accepted a loss of accuracy."""
        assert base.adopted is not None
        self.base = base
        self.config = base.config
        self.classes = make_classes(base.config, self.classes.export())
        if base.adopted.max_loss is not None:
            self.forget_anchor()
        self.break_lineage(f"encoder {base.adopted.name} was adopted")

    def _remove_excluded(self, excluded: Collection[Labelled]) -> None:
        """Removes samples from the replay buffer that training has excluded, so that no later batch contains them."""
        if gone := self.replay.take_out(lambda sample: sample in excluded):
            self.counts["samples_set_apart"] += len(gone)
            log.warning("samples_set_apart", events=[sample.event for sample in gone], reason="not_finite")

    def _end(self, done: SlowRound) -> bool:
        """Adopts the encoder of a finished round, or drops it; returns whether it was adopted."""
        is_adopted = done.is_adoptable(is_complete=self.fast_head.ridge.num_samples <= len(self.replay))
        kind = "rounds" if done.trained else "offers"
        self.counts[f"{kind}_adopted" if is_adopted else f"{kind}_dropped"] += 1
        log.info(
            "round_done",
            round=done.number,
            adopted=is_adopted,
            held=done.holdout_result,
            trial=done.trial_result.paired,
        )
        if is_adopted:
            self.progress.break_off()
            self.adopt(done)
        else:
            self.drop(done.refusals)
        return is_adopted
