"""What the learner knows, and how a label changes it.

    records --join--> samples --score--> held back, or: fast tier, replay memory, fresh --a unit of a slow round-->

One owner of everything that a checkpoint holds. `export` and `restore` are each other's inverse: a restored learner
goes on as if nothing had happened, bit for bit, but for a slow round, which it repeats from its plan.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog
from torch import Tensor

from learner.config import LearnerConfig
from learner.fast.fast_head import FastTier
from learner.labels.classes import completed
from learner.labels.join import Join
from learner.labels.letters import Letters
from learner.labels.prequential import Prequential
from learner.labels.recent import hash_of
from learner.labels.sample import Sample
from learner.labels.trust import LabelTrust
from learner.memory.erasures import Erased
from learner.memory.replay import Labelled, Replay, with_names
from learner.quality.anchor import Anchor
from learner.quality.evaluation import changes
from learner.quality.gate import is_worse_beyond_chance
from learner.quality.temperature import DEFAULT
from learner.slow.round import Phase, SlowRound
from learner.slow.schedule import MARKS, Schedule
from learner.state.base_encoder import BaseEncoder
from learner.state.lineage import began, broken, ended, stored
from learner.state.origin import OriginChange
from learner.state.parts import classes_of, drift_of, fresh_of, holdout_of, replay_of
from learner.state.snapshot import MEANS, Facts, Snapshot
from learner.stopwatch import Pace
from model.errors import NonFinite
from model.strata import Strata
from model.tokenizer import TextTokenizer
from wire.events import text_of
from wire.receipts import Receipts
from wire.records import Answer, Feedback, Lineage, Quarantined, RoundKind, WeightManifest
from wire.subjects import Subjects

ADOPTION_SIGMAS = 2.0
"""A round is dropped when it is worse by more standard errors than this. One would drop every eighth that is as good:
two samples lost and none won are enough for it."""

KNOWLEDGE = ["strata", "tier", "classes", "replay", "holdout", "fresh", "temperature", "anchor", "lineage", "round"]
"""The attributes of a learner that a snapshot of a version replaces."""

log = structlog.get_logger("learner")


class Learner:
    """The state: windows, tiers, memory, counters, offsets. `version` is the published one that it goes on from."""

    def __init__(
        self,
        config: LearnerConfig,
        strata: Strata,
        tokenizer: TextTokenizer,
        *,
        receipts: Receipts | None = None,
        subjects: Subjects | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        self._base = BaseEncoder(config, strata, tokenizer, cache_dir=cache_dir)
        self._config = config
        self._receipts = receipts
        self._subjects = subjects
        self.model_spec = self._base.model_spec
        self.strata = strata
        self.tier = FastTier(self._base.served, ridge=config.ridge)
        self.trust = LabelTrust(config, receipts=receipts)
        self.join = Join(config, self.trust)
        self.letters = Letters()
        self.classes = classes_of(config)
        self.replay = replay_of(config)
        self.holdout = holdout_of(config)
        self.prequential = Prequential()
        self.drift = drift_of(config)
        self.erased = Erased(subjects)
        self.counts: Counter[str] = Counter()
        self._schedule = Schedule(config, self.counts)
        self.offsets: dict[str, int] = {}
        self.logs: dict[str, str] = {}
        self.read_first: dict[str, int] = {}
        self.version = self.last_version = 0
        self.temperature = DEFAULT
        self.anchor: Anchor | None = None
        self.round: SlowRound | None = None
        self.lineage = Lineage()
        self.fresh: Replay[Labelled] = fresh_of(config)
        """What was learnt since the last round began."""
        self.pace = Pace()  # of labels, from the poll to the changed head
        self.has_migrated = False
        """Whether the state that was restored last was made under other settings."""

    def learn(
        self, records: Iterable[Answer | Feedback], offsets: Mapping[str, int], logs: Mapping[str, str] | None = None
    ) -> list[Quarantined]:
        """Take what was read up to `offsets` of `logs`. Afterwards every record below them has had its effect.

        Returns the labels that had none because they are not believed.
        """
        start_s = time.perf_counter()
        samples = self.join.match(self.erased.living(records, self.join.skip))
        self.prequential.add(samples)
        self.drift.add_answers(samples, self.tier.head.classes)
        self._take(samples)
        self.offsets = dict(offsets)
        self.logs = dict(logs) if logs else {}
        self.pace.add(time.perf_counter() - start_s, len(samples))
        return self.join.take_quarantined()

    def tick(self, *, is_idle: bool = False) -> bool:
        """Do one unit of slow work, if there is any. True when it made a better encoder, which was adopted.

        `is_idle`: no label came for a while, so there is time to rehearse.
        """
        if self.round is None:
            self.begin_if_due(is_idle=is_idle)
            return False
        if self.round.phase is Phase.STORE:
            self.lineage = stored(self.lineage, self.offsets)
        try:
            is_done = self.round.step(self.replay, self.holdout) is Phase.DONE
            return is_done and self._finish_round(self.round)
        except NonFinite as error:
            log.warning("round_dropped", round=self.round.plan.number, reason=str(error))
            self.counts["rounds_not_finite"] += 1
            self.drop()
            return False

    def begin_if_due(self, *, is_idle: bool = False) -> None:
        """Begin the slow round that is due, if none is under way. It begins behind the records learnt so far."""
        if self.round is not None:
            return
        is_urgent = self.drift.is_urgent
        kind = self._schedule.due(len(self.replay), self.join, is_urgent=is_urgent, is_idle=is_idle)
        if kind is not None:
            self.begin(kind)

    def begin(self, kind: RoundKind) -> None:
        """Begin a slow round now."""
        plan = self._schedule.begin(kind, self.fresh.samples(), self.replay, self.join)
        self.lineage = began(self.lineage, number=plan.number, kind=kind, offsets=self.offsets)
        self.drift.is_urgent = False
        self.fresh = fresh_of(self._config)
        self.round = SlowRound(plan, self.tier.means(plan.labels), self.tier, self.strata, config=self._config)

    def adopt(self, done: SlowRound) -> None:
        """Go on with the encoder that a round has made, and with what was learnt again under it."""
        self.tier = done.next_tier
        self.strata = done.strata
        self.drift.new_encoder()
        self.lineage = ended(self.lineage, is_adopted=True)
        self.round = None

    def drop(self) -> None:
        """Go on with the encoder from before the round."""
        self.lineage = ended(self.lineage, is_adopted=False)
        self.round = None

    def export(self, pending: WeightManifest | None, *, epoch: int = 0) -> Snapshot:
        """Everything, as one value. `pending`: the version that this state is about to be published as."""
        facts = Facts(
            epoch=epoch,
            version=self.version,
            last_version=self.last_version,
            pending=pending,
            origin=self._base.origin,
            offsets=self.offsets,
            logs=self.logs,
            read_first=self.read_first,
            classes=list(self.tier.head.classes),
            counts=dict(self.counts),
            num_scored=self.prequential.num_scored,
            num_correct=self.prequential.num_correct,
            recent=list(self.prequential.recent),
            temperature=self.temperature,
            anchor=self.anchor,
            join=self.join.export(),
            guard=self.trust.export(),
            letters=self.letters.export(),
            support=self.classes.export(),
            replay=self.replay.export(),
            held_back=self.holdout.samples.export(),
            since_round=self.fresh.export(),
            lineage=self.lineage,
            round_plan=self.round.plan if self.round else None,
            drift=self.drift.export(),
            erased=self.erased.export(),
        )
        sums = {f"fast.{name}": value for name, value in self.tier.export().items()}
        top = {f"top.{name}": value for name, value in self.top.items()}
        means = {MEANS: self.round.means_CD} if self.round else {}
        return Snapshot(facts=facts, tensors=sums | top | means)

    def restore(self, snapshot: Snapshot) -> None:
        """Become the learner that was exported, under the settings of now. Raises StateRefused where they forbid it."""
        facts = snapshot.facts
        change = self._restore_knowledge(snapshot)
        self.trust = LabelTrust(self._config, receipts=self._receipts, state=facts.guard)
        self.join = Join(self._config, self.trust, state=facts.join)
        self.letters.restore(facts.letters)
        self.holdout = holdout_of(self._config, facts.held_back)
        self.prequential = Prequential(num_scored=facts.num_scored, num_correct=facts.num_correct, recent=facts.recent)
        self.drift = drift_of(self._config, facts.drift)
        self.erased = Erased(self._subjects, facts.erased)
        self.counts.clear()  # others hold it
        self.counts.update(facts.counts)
        self.offsets = dict(facts.offsets)
        self.logs = dict(facts.logs)
        self.read_first = dict(facts.read_first)
        self.version = facts.version
        self.last_version = facts.last_version
        self._changed(change)

    @contextmanager
    def recalling(self, snapshot: Snapshot) -> Iterator[None]:
        """Know for a while what `snapshot` knew, as far as a version is made of it; a round under way stands still.

        Raises StateRefused.
        """
        before = {name: getattr(self, name) for name in KNOWLEDGE}
        try:
            self._restore_knowledge(snapshot)
            self.holdout = holdout_of(self._config, snapshot.facts.held_back)
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    def set_aside(self, snapshot: Snapshot, version: int) -> None:
        """Go back to what `version` knew. What was read since stays read: those labels are set aside, and counted."""
        num_learnt = self.counts["learnt"]
        change = self._restore_knowledge(snapshot)
        self.drift.new_encoder()
        self.counts["learnt"] = snapshot.facts.counts.get("learnt", 0)
        for name in MARKS:
            self.counts[name] = snapshot.facts.counts.get(name, 0)
        self.counts["set_aside"] += num_learnt - self.counts["learnt"]
        self.lineage = broken(self.lineage, "labels were set aside")
        self.version = version
        self.erased.returned(len(snapshot.facts.erased.erasures))
        self._changed(change)

    @property
    def labels_to_round(self) -> float:
        """The fewest labels after which a slow round may be due. A round begins right behind the label that makes it
        due, not where a poll happens to end.
        """
        if self.round is not None:
            return math.inf
        return self._schedule.labels_to_round(len(self.replay), is_urgent=self.drift.is_urgent)

    @property
    def has_work(self) -> bool:
        """Whether `tick` has something to do now."""
        return self.round is not None

    @property
    def top(self) -> dict[str, Tensor]:
        """The weights of the trained blocks, by name."""
        return self._base.top(self.strata)

    @property
    def is_rested(self) -> bool:
        """Whether there would be nothing to do for the slow tier even if no label came for long."""
        is_urgent = self.drift.is_urgent
        return not self.has_work and self._schedule.is_rested(len(self.replay), self.join, is_urgent=is_urgent)

    @property
    def encoder_keys(self) -> set[str]:
        """The encoders in use: the current one, and that of a round which is being measured."""
        return {self.tier.served.key} | ({self.round.next_tier.served.key} if self.round else set())

    def _take(self, samples: Sequence[Sample]) -> None:
        """Learn the samples of classes that have a row or get one, or hold them back."""
        taken: list[Sample] = []
        for sample in samples:
            self.classes.say(sample.label)
            weaker = self._weaker(sample)
            if weaker:  # those before it count, too
                self._learn(taken)
                taken = []
            if self._has_row(sample) or self._make_room(sample.label, weaker):
                taken.append(sample)
            else:
                self.counts["over_capacity"] += 1
        self._learn(taken)

    def _weaker(self, sample: Sample) -> list[str]:
        """The classes one of which has to make room for that of `sample`, the weakest first; [] where none has to."""
        is_settled = sample.is_held_back or not self.classes.is_full or sample.label in self.classes
        return [] if is_settled else self.classes.weaker(sample.label)

    def _has_row(self, sample: Sample) -> bool:
        """A held-back sample takes no row, but while there are rows it may come before its class has one."""
        if sample.label in self.classes:
            return True
        if self.classes.is_full:
            return False
        if not sample.is_held_back:
            self.classes.admit(sample.label)
        return True

    def _make_room(self, label: str, weaker: Sequence[str]) -> bool:
        """Give the row of a weaker class to `label`, of the first that can be taken out. False where none can."""
        gone = next((it for it in weaker if self._is_whole(it)), None)
        if gone is not None:
            self._evict(gone, label)
        return gone is not None

    def _is_whole(self, label: str) -> bool:
        """Whether the memory holds all that was learnt of a class, so that it can be taken out again."""
        return self.tier.head.num_of(label) == len(self.replay.of(label))

    def _evict(self, old: str, new: str) -> None:
        """Take out all that was learnt of a class, and give its row to another."""
        samples = self.replay.of(old)
        if self.round is not None:
            self.round.evict(samples, old, new)
        self.tier.evict(samples, old, new)
        for memory in (self.replay, self.fresh, self.holdout.samples):
            memory.erase_class(old)
        self.holdout.keep(self.encoder_keys)
        self.counts["classes_evicted"] += 1
        self.counts["labels_evicted"] += self.classes.evict(old)
        self.classes.admit(new)
        self.lineage = broken(self.lineage, "a class lost its row to another")
        log.info("class_evicted", evicted=old, admitted=new)

    def _learn(self, samples: Sequence[Sample]) -> None:
        holdout = [self._labelled(sample) for sample in samples if sample.is_held_back]
        self.holdout.add(holdout)
        labelled = [self._labelled(sample) for sample in samples if not sample.is_held_back]
        self.counts["held_back"] += len(holdout)
        self.counts["learnt"] += len(labelled)
        if self._config.learn_names:
            known = [label for label, num in self.tier.head.num_by_class.items() if num]
            labelled = with_names(labelled, known)
        self.tier.admit_all(sample.label for sample in labelled)
        self.drift.add_texts(self.tier.learn_many(labelled))
        self.replay.add(labelled)
        self.fresh.add(labelled)
        if self.round is not None:
            self.round.also(labelled)

    def _labelled(self, sample: Sample) -> Labelled:
        event = hash_of(text_of(sample.key))
        return Labelled(sample.text, sample.label, sample.subject, self.counts["rounds"], event)

    def _finish_round(self, done: SlowRound) -> bool:
        """Adopt the round's encoder unless it is worse than the current one on held-back samples, beyond chance."""
        lost, won = changes(self.tier, done.next_tier, self.holdout, temperature=self.temperature)
        is_adopted = not is_worse_beyond_chance(lost, won, sigmas=ADOPTION_SIGMAS)
        self.counts["rounds_adopted" if is_adopted else "rounds_dropped"] += 1
        log.info("round_done", round=done.plan.number, adopted=is_adopted, lost=lost, won=won)
        if is_adopted:
            self.adopt(done)
        else:
            self.drop()
        return is_adopted

    def _restore_knowledge(self, snapshot: Snapshot) -> OriginChange:
        """The part that labels made: tiers, memory, a round under way. Raises StateRefused before anything is changed.

        Returns what is different from the settings under which it was made.
        """
        facts = snapshot.facts
        replay = replay_of(self._config, snapshot.facts.replay)
        self.strata, self.tier, change = self._base.restored(snapshot, replay.samples(), like=self.tier.served)
        self.replay = replay
        self.classes = classes_of(self._config, completed(facts.support, self.tier.head.num_by_class))
        self.temperature = facts.temperature
        self.anchor = None if change.is_rebuilt else facts.anchor
        self.fresh = fresh_of(self._config, facts.since_round)
        self.lineage = facts.lineage
        self.round = None
        if facts.round_plan is not None and (change.is_rebuilt or not self._config.trainable_layers):
            self.drop()  # it trained another encoder
        elif facts.round_plan is not None:
            means_CD = snapshot.tensors[MEANS]
            self.round = SlowRound(facts.round_plan, means_CD, self.tier, self.strata, config=self._config)
        return change

    def _changed(self, change: OriginChange) -> None:
        """Note that the state which was restored was made under other settings, if it was."""
        self.has_migrated = bool(change)
        if change:
            self.counts["migrations"] += 1
            self.lineage = broken(self.lineage, f"settings were changed: {', '.join(change.settings)}")
        if change.is_rebuilt:
            self.drift.new_encoder()
