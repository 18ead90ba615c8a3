"""The learner: its position in the topics, its knowledge, and the version that it continues from.

    records --join--> samples --score, trust--> Knowledge: fast head, replay buffer, holdout
    Knowledge --begin, then tick by tick--> slow round --> a better encoder
    learner --export--> Snapshot --restore--> Knowledge, and the settings that have changed since

The learner owns everything that a checkpoint contains. `export` and `restore` are inverse: a restored learner continues
as if it had never stopped, bit for bit. Only a slow round that was under way starts again, from its plan.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from copy import copy
from pathlib import Path

import structlog

from learner.commands import HeldCommands
from learner.config import LearnerConfig
from learner.drift import ConceptChanges
from learner.encoder.base import BaseEncoder, BaseEncoders, OriginDiff
from learner.encoder.served import ServedEncoder, cache_vectors
from learner.errors import DataError, StateRefused
from learner.fast.fast_head import FastHead
from learner.fast.ridge import num_samples_in
from learner.fast.rows import backfill_label_counts
from learner.intake.erasures import ErasedSubjects
from learner.intake.join import Join, LabelNames
from learner.intake.outbox import Outbox
from learner.intake.trust import LabelTrust
from learner.knowledge import Knowledge
from learner.learning import learn_many
from learner.memory import Replay
from learner.prequential import Prequential
from learner.progress import LearnerProgress
from learner.rounds.schedule import Schedule
from learner.rounds.trial import AdoptionRule
from learner.rounds.worker import INLINE, side_executor
from learner.samples import HoldoutDraw, Labelled, Learnable
from learner.standardisation import standardise
from learner.state.checkpoints import VersionState
from learner.state.lineage import end_round
from learner.state.parts import (
    backfill_newest,
    make_classes,
    make_drift_watch,
    make_fast_head,
    make_fresh_buffer,
    make_holdout,
    make_replay_buffer,
)
from learner.state.snapshot import MEANS, Facts, Snapshot
from learner.stopwatch import Pace
from learner.unlearning import erase, go_back
from model.packed import Inputs, WholeEncoder
from wire.config import LabelConfig
from wire.inputs import problem_of_stored
from wire.label_set import LabelSet
from wire.receipts import Receipts
from wire.records import (
    Answer,
    ConceptChange,
    Feedback,
    Lineage,
    LogMarks,
    Quarantined,
    RoundKind,
    WeightManifest,
)


class Learner:
    """Owns the state of learning. It belongs to one thread.

    - `version`: the published version from which the learner continues; 0 before the first one.
    - `read_first`: the offsets up to which the learner must read before it publishes, since `version` contains the
      records below them.
    - `executor`: runs the units of slow rounds.
    - `rule`: decides whether an encoder on trial is adopted. Without a rule there are no trials.
    """

    def __init__(
        self,
        config: LearnerConfig,
        strata: WholeEncoder,
        tokenizer: Inputs,
        *,
        receipts: Receipts | None = None,
        subject_digest: Callable[[str], str] | None = None,
        cache_dir: Path | None = None,
        executor: Executor = INLINE,
        rule: AdoptionRule | None = None,
    ) -> None:
        self._config = config
        self.executor = executor
        self.helper = side_executor(executor, "helper", niceness=config.niceness, threads=config.threads)
        self.bases = BaseEncoders(config, strata, tokenizer, folder=cache_dir)
        self.label_config = LabelConfig()
        self._rule = rule
        self.knowledge = empty_knowledge(self.bases.of_settings, rule)
        self.progress = self.knowledge.progress
        self.counts = self.knowledge.counts
        self.schedule = Schedule(config, self.progress, self.counts)
        self.trust = LabelTrust(config, receipts=receipts, reads=lambda content: self.fast_head.served.reads(content))
        self.commands = HeldCommands()
        self.names = LabelNames(lambda: self.knowledge, HoldoutDraw(config.holdout_share))
        self.join = Join(config, self.trust, self.names)
        self.letters = Outbox()
        self.prequential = Prequential()
        self.drift = make_drift_watch(config)
        self.erased = ErasedSubjects(subject_digest)
        self.offsets: dict[str, int] = {}
        self.marks: LogMarks = {}
        self.read_first: dict[str, int] = {}
        self.version = 0
        self.last_version = 0
        # The samples that were learnt since the last checkpoint or journal entry.
        self.unwritten: list[Learnable] = []
        # The mean time of a label, from the poll to the updated head.
        self.pace = Pace()
        # Whether the restored state was made with other settings.
        self.has_migrated = False

    def learn_many(
        self, records: Iterable[Answer | Feedback], offsets: Mapping[str, int], marks: LogMarks | None = None
    ) -> list[Quarantined]:
        """Learns the records that were read up to `offsets`. Returns the labels that are not trusted.

        Afterwards every record below `offsets` has had its effect; labels that are not trusted have none. `marks` are
        the newest log times that were read.
        """
        start_s = time.perf_counter()
        if self.erased.num:
            records = self.erased.without_erased(records, self.join.skip)
        kept = list(records)
        fast_head = self.knowledge.fast_head
        cache_vectors(kept, fast_head.served.known, self.trust.receipts)
        samples = self.join.match(kept)
        self.prequential.add(samples)
        self.drift.add_answers(samples, fast_head.ridge.rows.by_label)
        learn_many(self.knowledge, samples, self.drift, self.helper)
        self.offsets = dict(offsets)
        self.marks = dict(marks) if marks else {}
        self.unwritten += samples
        self.pace.add(time.perf_counter() - start_s, len(samples))
        return self.join.take_quarantined()

    def restart_class(self, change: ConceptChange) -> None:
        """Restarts a class whose concept has changed: the learner forgets its earlier samples."""
        learn_many(self.knowledge, [change], self.drift)
        self.unwritten.append(change)

    def tick(self, *, is_idle: bool = False) -> bool:
        """Does the slow work that is due. Returns whether a better encoder was adopted.

        Restarts the classes whose concept has changed. Then begins a unit of the slow round, or a new round if one is
        due. `is_idle`: no label came for a while, so there is time for a rehearsal.
        """
        for change in self.knowledge.concept_changes.detected(self.offsets):
            self.restart_class(change)
        standardise(self.knowledge, self.drift)
        if self.knowledge.round is None:
            num_trainable = self.knowledge.num_trainable
            if kind := self.schedule.due(num_trainable, self.join, is_urgent=self.drift.is_urgent, is_idle=is_idle):
                self.begin(kind)
            return False
        if self.knowledge.round.trained and self.schedule.is_behind:
            return False
        try:
            is_adopted = self.knowledge.step(self.offsets, self.executor, may_wait=not is_idle)
        except DataError as error:
            # A user's training strategy has failed.
            self.knowledge.drop()
            self.schedule.stop(error)
            return False
        if is_adopted:
            self.drift.reset_distances()
        return is_adopted

    def begin(self, kind: RoundKind, *, layers: int | None = None) -> None:
        """Begins a slow round now, on the labels learnt so far.

        By default it trains the tier that drift has unfrozen; `layers` trains as many top blocks instead.
        """
        tier = self.drift.begin_round(kind)
        layers = self._config.tiers[tier] if layers is None else layers
        self.knowledge.begin(kind, self.schedule, self.join, self.offsets, layers)

    def export(self, pending: WeightManifest | None, *, epoch: int = 0) -> Snapshot:
        """Returns the whole state as one value.

        `pending` is the manifest if this state is about to be published as a version; `epoch` is the leader's epoch.
        """
        known = self.knowledge
        trained = known.round.trained if known.round else None
        facts = Facts(
            epoch=epoch,
            version=self.version,
            last_version=self.last_version,
            pending=pending,
            origin=known.base.origin,
            adopted=known.base.adopted,
            offsets=self.offsets,
            marks=dict(self.marks),
            read_first=self.read_first,
            classes=list(known.fast_head.ridge.classes),
            progress=copy(self.progress),
            counts=dict(self.counts),
            num_scored=self.prequential.num_scored,
            num_correct=self.prequential.num_correct,
            recent=list(self.prequential.recent),
            temperature=known.temperature,
            anchor=known.anchor,
            join=self.join.export(),
            trust=self.trust.export(),
            letters=self.letters.export(),
            support=known.classes.export(),
            replay=known.replay.export(),
            holdout=known.holdout.samples.export(),
            since_round=known.fresh.export(),
            concept_changes=known.concept_changes.export(),
            commands=self.commands.export(),
            applied_seq=known.applied_seq,
            lineage=known.lineage,
            round_plan=trained.plan if trained else None,
            drift=self.drift.export(),
        )
        means_CD = trained.means_CD if trained else None
        states = {name: stored.tensor.parts for name, stored in known.fast_head.served.states.items()}
        return Snapshot.of(facts, sums=known.fast_head.export(), top=known.top, means_CD=means_CD, states=states)

    def restore(self, snapshot: Snapshot) -> None:
        """Replaces the state by an exported one, under the current settings. Raises StateRefused before any change."""
        facts = snapshot.facts
        self.knowledge, difference = self.restored_knowledge(VersionState(snapshot))
        self.knowledge.count_in(self.progress, self.counts)
        self.trust = self.trust.restored(facts.trust)
        self.join = Join(self._config, self.trust, self.names, facts.join)
        self.commands = HeldCommands(facts.commands)
        self.letters.restore(facts.letters)
        self.prequential = Prequential(num_scored=facts.num_scored, num_correct=facts.num_correct, recent=facts.recent)
        self.drift = make_drift_watch(self._config, facts.drift)
        is_due = self.commands.reopen(self.knowledge.applied_seq)
        self.erased = self.erased.restored(facts.commands.digests, is_due=is_due)
        # The schedule and the knowledge share these two objects, so they are filled and not replaced.
        self.progress.restore(snapshot.progress)
        self.counts.clear()
        self.counts.update(facts.counts)
        self.offsets = dict(facts.offsets)
        self.marks = dict(facts.marks)
        self.last_version = facts.last_version
        self.continue_from(facts.version, facts.read_first, {})
        self._note_difference(difference)

    def restored_knowledge(self, state: VersionState) -> tuple[Knowledge, OriginDiff]:
        """Returns the knowledge of an earlier state, without changing the current knowledge (`restore_knowledge`).

        Raises StateRefused.
        """
        base = self.bases.restored(state.snapshot.facts.adopted, self.knowledge.base)
        return restore_knowledge(state, base, self.label_config, like=self.fast_head.served, rule=self._rule)

    def go_back(self, state: VersionState, version: int) -> None:
        """Goes back to the knowledge of `version`, and sets aside all labels that were learnt since then.

        `state` is the state of the version. The labels are not read again, and are counted as `set_aside`. The anchor
        is dropped.
        """
        known, difference = self.restored_knowledge(state)
        self.drift.reset_distances()
        self.counts["set_aside"] += self.progress.go_back(known.progress)
        self.counts["learnt"] = self.progress.num_labels
        known.count_in(self.progress, self.counts)
        go_back(self.knowledge, known)
        self.knowledge = known
        self.version = version
        if self.commands.reopen(known.applied_seq):
            self.erased.is_due = True
        self._note_difference(difference)

    def erase(self, *, keep_alive: Callable[[], None]) -> dict[str, int]:
        """Removes everything about erased subjects; returns the numbers of removed samples, by where they were."""
        removed = erase(self.knowledge, self.erased.holds, keep_alive=keep_alive)
        self.letters.erase(self.erased.holds)
        self.erased.is_due = False
        suspects = self.trust.erase(self.erased.holds)
        return removed | {"suspects": suspects, "pending": self.join.erase(self.erased.holds)}

    def adopt_version(self, manifest: WeightManifest) -> None:
        """Records that `manifest` was published from this learner's knowledge: the learner continues from it."""
        self.version = manifest.version
        self.reserve(manifest.version)
        if manifest.commands:
            self.commands.mark_published(manifest.version, manifest.commands)

    def continue_from(self, version: int, offsets: Mapping[str, int], ends: Mapping[str, int]) -> None:
        """Continues from the published `version`, which contains the records below `offsets`.

        The learner publishes nothing before it has read up to these offsets, but at most up to `ends`, the last offsets
        that can be read.
        """
        self.version = version
        self.reserve(version)
        self.read_first = {name: min(offset, ends.get(name, offset)) for name, offset in offsets.items()}

    def reserve(self, version: int) -> None:
        """Makes sure that this version number and the numbers below it are never used for a new version."""
        self.last_version = max(self.last_version, version)

    def forget_read_first(self) -> None:
        """Stops waiting for the records below `read_first`: they are lost, or the version with them was withdrawn."""
        self.read_first = {}

    @property
    def must_wait(self) -> bool:
        """Whether records must be read or commands executed before a version is published."""
        return self.is_behind or self.commands.last_kept > self.knowledge.applied_seq

    @property
    def is_behind(self) -> bool:
        """Whether `version` contains records that this learner has not read yet."""
        return any(self.offsets.get(partition, 0) < offset for partition, offset in self.read_first.items())

    @property
    def fast_head(self) -> FastHead:
        """The fast head under the current encoder."""
        return self.knowledge.fast_head

    @property
    def replay(self) -> Replay[Labelled]:
        """The replay buffer."""
        return self.knowledge.replay

    @property
    def labels_to_round(self) -> float:
        """The number of labels after which the next slow round may be due.

        A poll returns no more labels than this, so that the round begins exactly there.
        """
        num_labels = self.schedule.labels_to_round(self.knowledge.num_trainable, is_urgent=self.drift.is_urgent)
        return math.inf if self.knowledge.round is not None else num_labels

    @property
    def has_work(self) -> bool:
        """Whether a unit of a slow round can be run now."""
        return self.knowledge.round is not None and self.knowledge.round.has_work

    @property
    def is_rested(self) -> bool:
        """Whether no slow round is under way, and none will become due without further labels."""
        may_rest = self.schedule.is_rested(self.knowledge.num_trainable, self.join, is_urgent=self.drift.is_urgent)
        return self.knowledge.round is None and may_rest

    def _note_difference(self, difference: OriginDiff) -> None:
        """Records the differences between the current settings and the settings of the restored state."""
        self.has_migrated = bool(difference)
        if difference:
            self.progress.break_off()
            self.counts["migrations"] += 1
            self.knowledge.break_lineage(f"settings were changed: {', '.join(difference.settings)}")
        if difference.is_rebuilt:
            self.drift.reset_distances()


log = structlog.get_logger("learner")


def empty_knowledge(base: BaseEncoder, rule: AdoptionRule | None = None) -> Knowledge:
    """Returns the knowledge before the first label."""
    config = base.config
    return Knowledge(
        config=config,
        base=base,
        progress=LearnerProgress(),
        counts=Counter(),
        strata=base.strata,
        fast_head=make_fast_head(config, base.served),
        classes=make_classes(config),
        replay=make_replay_buffer(config),
        holdout=make_holdout(config),
        fresh=make_fresh_buffer(config),
        concept_changes=ConceptChanges(config.trust.change_sources),
        labels=LabelSet(),
        lineage=Lineage(),
        rule=rule,
    )


def restore_knowledge(
    state: VersionState,
    base: BaseEncoder,
    labels: LabelConfig,
    *,
    like: ServedEncoder,
    rule: AdoptionRule | None = None,
) -> tuple[Knowledge, OriginDiff]:
    """Returns the knowledge of `state`, and the settings that have changed since the state was made.

    - `base`: the base encoder of the state, under the current settings.
    - `like`: is kept as the quantized encoder if it has the same weights, since its caches are filled.

    The result has its own progress and counts. If the settings or the encoder have changed, a slow round that was under
    way is dropped. Raises StateRefused.
    """
    config = base.config
    snapshot = state.snapshot
    facts = snapshot.facts
    replay = make_replay_buffer(config, facts.replay)
    if problem := problem_of_stored(sample.text for sample in replay.samples()):
        raise StateRefused(problem)
    change = base.changed_from(facts.origin, num_classes=len(facts.classes))
    strata, served = base.with_blocks(facts.origin, snapshot.top, snapshot.states, like=like)
    fast_head = _restored_head(snapshot, make_fast_head(config, served), change, replay)
    known = Knowledge(
        config=config,
        base=base,
        progress=snapshot.progress,
        counts=Counter(facts.counts),
        strata=strata,
        fast_head=fast_head,
        classes=make_classes(config, backfill_label_counts(facts.support, fast_head.ridge.num_by_class)),
        replay=replay,
        holdout=make_holdout(config, facts.holdout),
        fresh=make_fresh_buffer(config, facts.since_round),
        concept_changes=ConceptChanges(config.trust.change_sources, facts.concept_changes),
        labels=LabelSet.of(labels, facts.commands.label_commands(facts.applied_seq)),
        applied_seq=facts.applied_seq,
        temperature=facts.temperature,
        anchor=None if change.is_rebuilt else facts.anchor,
        lineage=facts.lineage,
        rule=rule,
    )
    known.check_kind(labels.kind)
    # Older releases did not keep the newest labels.
    lacks_newest = "newest_z" not in snapshot.sums or not snapshot.sums["newest_z"].numel()
    is_filled = lacks_newest and known.labels.kind.is_exclusive and backfill_newest(fast_head, replay)
    if is_filled and fast_head.ridge.num_samples > len(replay):
        known.break_lineage("the newest labels were taken from a replay buffer that had dropped samples")
    if facts.round_plan is not None and (change.is_rebuilt or not config.trainable_layers):
        known.lineage = end_round(facts.lineage, is_adopted=False)
    elif facts.round_plan is not None:
        known.resume(facts.round_plan, snapshot.tensors[MEANS])
    learn_many(known, state.samples, make_drift_watch(config))
    return known, change


def _restored_head(snapshot: Snapshot, fast_head: FastHead, change: OriginDiff, replay: Replay[Labelled]) -> FastHead:
    """Fills an empty fast head with the sums of a snapshot, or from the replay buffer if the features have changed."""
    if change.is_rebuilt:
        fast_head.admit_all(snapshot.facts.classes)
        fast_head.relearn(replay.samples())
    else:
        fast_head.restore(snapshot.sums, snapshot.facts.classes)
    if change:
        num_lost = num_samples_in(snapshot.sums) - fast_head.ridge.num_samples
        log.warning("migrated", changed=change.settings, samples_lost=num_lost, blocks_kept=change.is_same_encoder)
    return fast_head
