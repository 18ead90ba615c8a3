"""The learner: what it has read, what it knows, and which version it goes on from.

    records --join--> samples --score, trust--> Knowledge: fast head, memories --a unit at a time--> slow round

The learner owns everything that a checkpoint holds. `export` and `restore` are inverse: what is restored goes on as if
nothing had happened, bit for bit, but for a slow round, which it repeats from its plan.

Rejected: parts that write themselves down one by one (offsets and sums of two moments would count labels twice).
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path

from learner.config import LearnerConfig
from learner.errors import DataError
from learner.fast.fast_head import FastHead
from learner.knowledge import Knowledge
from learner.known_vectors import take_vectors
from learner.labels.join import Join
from learner.labels.label_names import LabelNames
from learner.labels.letters import Letters
from learner.labels.prequential import Prequential
from learner.labels.sample import HoldoutDraw, Labelled, Learnable
from learner.labels.trust import LabelTrust
from learner.memory.erasures import ErasedSubjects
from learner.memory.replay import Replay
from learner.slow.schedule import Schedule
from learner.slow.worker import INLINE, beside
from learner.standardisation import standardise
from learner.state.bases import Bases
from learner.state.checkpoint import VersionState
from learner.state.origin import OriginDiff
from learner.state.parts import drift_of
from learner.state.persistence import empty_knowledge, restore_knowledge, snapshot_of
from learner.state.snapshot import Snapshot
from learner.stopwatch import Pace
from learner.unlearning import erase, set_aside
from model.encoders import WholeEncoder
from model.packed import Inputs
from wire.config import LabelConfig
from wire.receipts import Receipts
from wire.records import Answer, ConceptChange, Feedback, LabelCommand, LogMarks, Quarantined, RoundKind, WeightManifest


class Learner:
    """Belongs to one thread. `version` is the published version that it goes on from, 0 before there is one.

    `read_first`: nothing is published below these offsets, which `version` knows. `executor` runs the units of rounds.
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
    ) -> None:
        self._config = config
        self.executor = executor
        self.helper = beside(executor, "helper", niceness=config.niceness, threads=config.threads)
        self.bases = Bases(config, strata, tokenizer, folder=cache_dir)
        self.label_config = LabelConfig()
        self.knowledge = empty_knowledge(self.bases.of_settings)
        self.progress = self.knowledge.progress
        self.counts = self.knowledge.counts
        self.schedule = Schedule(config, self.progress, self.counts)
        self.trust = LabelTrust(config, receipts=receipts, reads=tokenizer.reads)
        self.label_commands: tuple[LabelCommand, ...] = ()  # all that were read
        self.names = LabelNames(lambda: self.knowledge, HoldoutDraw(config.holdout_share))
        self.join = Join(config, self.trust, self.names)
        self.letters = Letters()
        self.prequential = Prequential()
        self.drift = drift_of(config)
        self.erased = ErasedSubjects(subject_digest)
        self.offsets: dict[str, int] = {}
        self.marks: LogMarks = {}
        self.read_first: dict[str, int] = {}
        self.version = 0
        self.last_version = 0
        self.unwritten: list[Learnable] = []  # what came since it was written down last
        self.pace = Pace()  # time per label, from the poll to the changed head
        self.has_migrated = False  # whether the state that was restored last was made under other settings

    def learn_many(
        self, records: Iterable[Answer | Feedback], offsets: Mapping[str, int], marks: LogMarks | None = None
    ) -> list[Quarantined]:
        """Learns what was read up to `offsets`, behind `marks`: then every record below has had its effect.

        Returns the labels that have none: they are not believed."""
        start_s = time.perf_counter()
        kept = list(self.erased.without_erased(records, self.join.skip))
        take_vectors(kept, self.fast_head.served.known, self.trust.receipts)
        samples = self.join.match(kept)
        self.prequential.add(samples)
        self.drift.add_answers(samples, self.fast_head.ridge.rows.by_label)
        self.knowledge.learn_many(samples, self.drift, self.helper)
        self.offsets = dict(offsets)
        self.marks = dict(marks) if marks else {}
        self.unwritten += samples
        self.pace.add(time.perf_counter() - start_s, len(samples))
        return self.join.take_quarantined()

    def restart_class(self, change: ConceptChange) -> None:
        """Restarts a class whose concept has changed."""
        self.knowledge.learn_many([change], self.drift)
        self.unwritten.append(change)

    def tick(self, *, is_idle: bool = False) -> bool:
        """Restarts the classes whose concept has changed; begins a unit of slow work, or the round that is due.

        True when a better encoder was adopted. `is_idle`: no label came for a while, so there is time to rehearse.
        """
        for change in self.knowledge.concept_changes.found(self.offsets):
            self.restart_class(change)
        standardise(self.knowledge, self.drift)
        if self.knowledge.round is None:
            memory = self.knowledge.num_trainable
            if kind := self.schedule.due(memory, self.join, is_urgent=self.drift.is_urgent, is_idle=is_idle):
                self.begin(kind)
            return False
        if self.knowledge.round.trained and self.schedule.is_behind:
            return False
        try:
            is_adopted = self.knowledge.step(self.offsets, self.executor, may_wait=not is_idle)
        except DataError as error:  # raised by a strategy that is not ours
            self.knowledge.drop()
            self.schedule.stop(error)
            return False
        if is_adopted:
            self.drift.reset_distances()
        return is_adopted

    def begin(self, kind: RoundKind, *, layers: int | None = None) -> None:
        """Begins a slow round now, behind the records learnt so far, by default in the tier that drift has unfrozen."""
        tier = self.drift.begin_round(kind)
        layers = self._config.tiers[tier] if layers is None else layers
        self.knowledge.begin(kind, self.schedule, self.join, self.offsets, layers)

    def export(self, pending: WeightManifest | None, *, epoch: int = 0) -> Snapshot:
        """Returns everything, as one value. `pending`: the version that this state is about to be published as."""
        return snapshot_of(self, pending, epoch=epoch)

    def restore(self, snapshot: Snapshot) -> None:
        """Becomes the learner that was exported, under the settings of now. Raises StateRefused before any change."""
        facts = snapshot.facts
        self.knowledge, difference = self.recall(VersionState(snapshot))
        self.knowledge.count_in(self.progress, self.counts)
        self.trust = self.trust.restored(facts.trust)
        self.join = Join(self._config, self.trust, self.names, facts.join)
        self.label_commands = facts.label_commands
        self.letters.restore(facts.letters)
        self.prequential = Prequential(num_scored=facts.num_scored, num_correct=facts.num_correct, recent=facts.recent)
        self.drift = drift_of(self._config, facts.drift)
        self.erased = self.erased.restored(facts.erased)
        self.progress.restore(snapshot.progress)  # the schedule and the knowledge hold the same
        self.counts.clear()
        self.counts.update(facts.counts)
        self.offsets = dict(facts.offsets)
        self.marks = dict(facts.marks)
        self.last_version = facts.last_version
        self.read_on(facts.version, facts.read_first, {})
        self._note_difference(difference)

    def recall(self, state: VersionState) -> tuple[Knowledge, OriginDiff]:
        """Returns what was known then, beside what is known now; see `restore_knowledge`. Raises StateRefused."""
        base = self.bases.of(state.snapshot.facts.adopted, self.knowledge.base)
        return restore_knowledge(state, base, self.label_config, like=self.fast_head.served)

    def set_aside(self, state: VersionState, version: int) -> None:
        """Goes back to what `version` knew, without an anchor. Labels read since stay read, and count as set aside."""
        known, difference = self.recall(state)
        self.drift.reset_distances()
        self.counts["set_aside"] += self.progress.go_back(known.progress)
        self.counts["learnt"] = self.progress.num_labels
        known.count_in(self.progress, self.counts)
        set_aside(self.knowledge, known)
        self.knowledge = known
        self.version = version
        self.erased.mark_rolled_back(len(state.snapshot.facts.erased.erasures))
        self._note_difference(difference)

    def erase(self, *, keep_alive: Callable[[], None]) -> dict[str, int]:
        """Takes out everything about erased subjects; returns how many samples, by where they were."""
        removed = erase(self.knowledge, self.erased.holds, keep_alive=keep_alive)
        self.letters.erase(self.erased.holds)
        self.erased.is_due = False
        suspects = self.trust.erase(self.erased.holds)
        return removed | {"suspects": suspects, "pending": self.join.erase(self.erased.holds)}

    def adopt_version(self, manifest: WeightManifest) -> None:
        """Goes on from `manifest`, which was published from what is known here."""
        self.version = manifest.version
        self.reserve(manifest.version)
        self.erased.mark_published(manifest.version, manifest.erased)

    def read_on(self, version: int, offsets: Mapping[str, int], ends: Mapping[str, int]) -> None:
        """Goes on from `version`: publishes nothing before the records below `offsets`, and before `ends`, are read."""
        self.version = version
        self.reserve(version)
        self.read_first = {name: min(offset, ends.get(name, offset)) for name, offset in offsets.items()}

    def reserve(self, version: int) -> None:
        """Takes note that this number is taken, and all below it."""
        self.last_version = max(self.last_version, version)

    def forget_read_first(self) -> None:
        """Waits for no more records: they are lost, or the version that knew them was withdrawn."""
        self.read_first = {}

    @property
    def is_behind(self) -> bool:
        """Whether `version` knows records that were not read here yet."""
        return any(self.offsets.get(partition, 0) < offset for partition, offset in self.read_first.items())

    @property
    def fast_head(self) -> FastHead:
        """The fast head under the current encoder."""
        return self.knowledge.fast_head

    @property
    def replay(self) -> Replay[Labelled]:
        """The replay memory."""
        return self.knowledge.replay

    @property
    def labels_to_round(self) -> float:
        """The fewest labels after which a slow round may be due: a poll ends there, and the round begins there."""
        num_labels = self.schedule.labels_to_round(self.knowledge.num_trainable, is_urgent=self.drift.is_urgent)
        return math.inf if self.knowledge.round is not None else num_labels

    @property
    def has_work(self) -> bool:
        """Whether a slow round has something to do now."""
        return self.knowledge.round is not None and self.knowledge.round.has_work

    @property
    def is_rested(self) -> bool:
        """Whether no slow round would be due even if no label came for long."""
        may_rest = self.schedule.is_rested(self.knowledge.num_trainable, self.join, is_urgent=self.drift.is_urgent)
        return self.knowledge.round is None and may_rest

    def _note_difference(self, difference: OriginDiff) -> None:
        """Notes that the state which was restored was made under other settings, if it was."""
        self.has_migrated = bool(difference)
        if difference:
            self.progress.break_off()
            self.counts["migrations"] += 1
            self.knowledge.break_lineage(f"settings were changed: {', '.join(difference.settings)}")
        if difference.is_rebuilt:
            self.drift.reset_distances()
