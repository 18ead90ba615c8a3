"""A version in the making: its stored tensors, what was measured through them, and what goes to the store for it.

    sums --solve--> W --temperature--> head.out --bytes--> QuantizedHead --> probes; accuracy beside parent and anchor
    plan.reference, encoder in use --another than before--> manifest, head from the store --> its head
                                   --the encoder is a new one--> which holdout samples it named rightly before
    Candidate --> the blobs that the store lacks, then the manifest that names them all

A candidate is compared with the fixed reference of the rollout plan. The plan is read for each publication: a version
that was compared with another reference than that of the plan in force is not made stable at once. A reference whose
encoder has other scales of numbers, and is the same otherwise, is read under its own scales.

A reference with another encoder than the one in use cannot name a text without encoding it anew. But the first version
with a new encoder is compared with its parent, whose encoder is mostly the reference's, and so each holdout sample is
known under that one, too. Then the reference is asked for what it names rightly, and that is kept, by the hashes of the
samples, until the plan has another reference. Samples that come later are not known of it. That its encoder is the one
before stays known of every reference that has it: the trial of the new encoder was beside that.

Rejected: measuring the weights before they are rounded (what is served would not be what was measured), and keeping in
the checkpoint what the reference names rightly. After a restart the parent is made again, and asked by; what is lost is
the comparison of later versions with the same encoder, which labels decide on.
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import msgspec
import structlog
from torch import Tensor

from learner.config import LearnerConfig
from learner.encoder.served import ServedEncoder, StoredTensor, export_head
from learner.fast.solver import HeadSolver
from learner.knowledge import Knowledge
from learner.learner import Learner
from learner.quality.calibration import Review
from learner.quality.class_weights import Weighted, bias_of
from learner.quality.evaluation import MeasuredCandidate, ScoredVersion, measure
from learner.quality.gate import GateLimits
from learner.quality.recent_events import NO_SAMPLES, RecentEvents, Reference
from learner.release.tensors import stored_states, stored_tensor
from learner.stopwatch import Stopwatch
from model.encoders import config_from_json
from model.errors import ModelError
from model.head import OUT
from model.inputs import is_state
from wire.config import LabelConfig
from wire.errors import BlobCorrupt, NotFound, StoreUnavailable, WireError
from wire.kinds import DEFAULT
from wire.label_set import LabelSet
from wire.records import HeadSolution, LabelSpace, NameChanges, PrecisionEvaluation, Probe, WeightManifest
from wire.store import Blobs, Store

log = structlog.get_logger("learner")

NO_CHANGES: Final = NameChanges()
NO_OFFSETS: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What would be published. `tensors` are all tensors of the version, by name."""

    version: ScoredVersion
    tensors: dict[str, StoredTensor]
    measured: MeasuredCandidate
    precisions: tuple[PrecisionEvaluation, ...]
    probes: tuple[Probe, ...]
    solution: HeadSolution
    name_changes: NameChanges = NO_CHANGES
    threshold: float = 0.0


class CandidateMaker:
    """Makes candidates. `parent` is the last one that was published: the next one is compared with it."""

    def __init__(self, config: LearnerConfig, executor: Executor | None = None) -> None:
        self._review = Review(config)
        self.solver = HeadSolver(executor)
        self.recent = RecentEvents(config.num_features)
        self.parent: Candidate | None = None
        self._labels_followed = 0

    def make(
        self,
        known: Knowledge,
        stopwatch: Stopwatch,
        offsets: Mapping[str, int] = NO_OFFSETS,
        *,
        anew: bool = True,
        like: WeightManifest | None = None,
        is_live: bool = True,
    ) -> Candidate:
        """Makes the version that `known`, which is everything below `offsets`, would be published as now.

        With `anew` the sums are solved, and temperature, threshold and precisions are measured. Otherwise the head is
        updated by what was learnt since the last one, and they are those of the last review, or those of the version
        `like`. What a state of the past (not `is_live`) has learnt is no new evidence. Raises NonFinite.
        """
        served = known.fast_head.served
        if is_live:
            self._follow(known.labels)
        anew = anew or self._review.encoder != served.key
        share = (like.solution.fading_share or 0.0) if like else None
        weights_CR = self.solver.solve(known.fast_head, offsets, anew=anew and not like, fading_share=share)
        stopwatch.end("solve")
        if like:
            known.calibrate(like.solution.temperature, like.labelled.threshold)
        elif anew:
            self._review.calibrate(known, weights_CR)
            stopwatch.end("temperature")
        classes = known.fast_head.ridge.classes
        out = _out_of(known, weights_CR)
        parent = None if self.parent is None or self.has_other_weights(known) else self.parent.version
        version = ScoredVersion(served, served.head(out), classes, weights_CR, _top_of(known, parent), known.base.key)
        stopwatch.end("requantize")
        measured = self._measured(known, version, parent)
        if is_live:
            self.recent.add(self.solver.rows, served, parent)
        probes = self._review.probes(known, version)
        stopwatch.end("evaluate")
        precisions = self._review.measure(known, version) if anew else self._review.precisions
        stopwatch.end("precisions")
        return Candidate(
            version=version,
            tensors=served.tensors | {OUT: out},
            measured=measured,
            precisions=precisions,
            probes=probes,
            solution=self._solution_of(known),
            threshold=known.fast_head.threshold,
            name_changes=self.recent.name_changes(version, measured.record, known.trial),
        )

    def _measured(self, known: Knowledge, version: ScoredVersion, parent: ScoredVersion | None) -> MeasuredCandidate:
        anchor = None if self.has_other_weights(known) else known.anchor
        weighted = Weighted(known.labels.class_weights, known.fast_head.ridge.num_by_class)
        return measure(version, parent, anchor, known.holdout, weighted, space=known.labels.config)

    def _solution_of(self, known: Knowledge) -> HeadSolution:
        weights = dict(known.labels.config.class_weights) or msgspec.UNSET
        return msgspec.structs.replace(self.solver.solution, temperature=known.temperature, class_weights=weights)

    def has_other_weights(self, known: Knowledge) -> bool:
        """Whether the parent was made under other class weights: then what is better under these says nothing of it."""
        return (
            self.parent is not None and (self.parent.solution.class_weights or {}) != known.labels.config.class_weights
        )

    def _follow(self, labels: LabelSet) -> None:
        """Goes on under the names that the classes have now. A parent whose rows are others now is forgotten."""
        if labels.number == self._labels_followed:
            return
        self._labels_followed = labels.number
        self.recent.rename(labels)
        if self.parent is not None:
            version = self.parent.version
            classes = tuple(map(labels.name_of, version.classes))
            has_same_rows = len(set(classes)) == len(classes) and labels.retired.isdisjoint(classes)
            renamed = replace(self.parent, version=version._replace(classes=classes))
            self.parent = renamed if has_same_rows else None

    def review(self, known: Knowledge, now_s: float) -> None:
        """Does a unit of the review of the parent, if one is due and the parent has the encoder of `known`."""
        if self.parent is not None and self.parent.version.served is known.fast_head.served:
            self._review.step(known, self.parent.version, now_s)

    def stored(
        self, manifest: WeightManifest, known: Knowledge, blobs: Blobs, *, served: ServedEncoder | None = None
    ) -> Candidate | None:
        """Makes the candidate again that was published as `manifest`, from its head in the store.

        None where its encoder is not `served` (by default that of `known`), or the head is missing or damaged.
        """
        served = served or known.fast_head.served
        if not has_encoder(manifest, served):
            return None
        try:
            out = stored_tensor(manifest, OUT, blobs)
            assert out is not None, "a version has a head"
            head = served.head(out)
        except (NotFound, BlobCorrupt, ModelError) as error:
            log.warning("head_not_at_hand", version=manifest.version, reason=str(error))
            return None
        weights_CR = known.temperature * out.tensor.dequantize()[: len(manifest.labels)]
        version = ScoredVersion(served, head, manifest.labels, weights_CR, known.top, known.base.key)
        return Candidate(
            version=version,
            tensors=served.tensors | {OUT: out},
            measured=measure(version, None, known.anchor, known.holdout, space=known.labels.config),
            precisions=manifest.precisions,
            probes=manifest.probes,
            solution=manifest.solution,
        )

    def adopt(self, candidate: Candidate, learner: Learner) -> None:
        """Makes `candidate`, which was published as the learner's version, the parent of the next one."""
        self.parent = candidate
        learner.knowledge.follow_anchor(candidate.measured, learner.version)
        learner.knowledge.holdout.keep({candidate.version.served.key} | learner.knowledge.encoder_keys)

    def forget(self) -> None:
        """Forgets the parent, all texts, and the events that came last."""
        self.parent = None
        self.recent.forget()
        self._review.forget()


def _out_of(known: Knowledge, weights_CR: Tensor) -> StoredTensor:
    head = known.fast_head
    bias_C = bias_of(known.labels.class_weights, head.ridge.classes)
    return export_head(
        head.served.config, weights_CR, temperature=known.temperature, threshold=head.threshold, bias_C=bias_C
    )


def has_encoder(manifest: WeightManifest, served: ServedEncoder) -> bool:
    """Whether the version has this encoder: its shape, and all tensors but those of its head, are the same."""
    if config_from_json(manifest.config).without_labels != served.config.without_labels:
        return False
    entries = {entry.name: entry for entry in manifest.tensors if entry.name != OUT}
    return entries == {name: tensor.entry for name, tensor in served.tensors.items()}


def limits_of(candidate: Candidate, parent: Candidate | None, known: Knowledge) -> GateLimits:
    """Returns what the candidate must reach: the first one under an adopted encoder, what its offer asks for."""
    adopted = known.base.adopted
    is_first = parent is not None and parent.version.base != candidate.version.base
    return GateLimits.of(known.config, max_loss=adopted.max_loss if adopted and is_first else None)


def _top_of(known: Knowledge, parent: ScoredVersion | None) -> Mapping[str, Tensor]:
    """Returns the trained blocks; those of the parent where its encoder is the same, else copies: they may change."""
    if parent is not None and parent.served.key == known.fast_head.served.key:
        return parent.top
    return {name: value.clone() for name, value in known.top.items()}


def manifest_of(candidate: Candidate, learner: Learner, *, version: int, epoch: int, time_ms: int) -> WeightManifest:
    """Returns the manifest of `candidate` as `version`, whose parent is the learner's version."""
    shape = candidate.version.head.config
    labels = learner.knowledge.labels.config
    return WeightManifest(
        version=version,
        parent=learner.version,
        model_spec=learner.knowledge.base.spec_of(shape.label_capacity),
        config=shape.canonical_json(),
        labels=candidate.version.classes,
        precisions=candidate.precisions,
        tensors=tuple(candidate.tensors[name].entry for name in sorted(candidate.tensors)),
        probes=candidate.probes,
        trained_through=dict(learner.offsets),
        evaluation=candidate.measured.evaluation,
        epoch=epoch,
        created_ms=time_ms,
        erased=learner.erased.num,
        label_commands=learner.knowledge.labels.number,
        commands=learner.knowledge.applied_seq or msgspec.UNSET,
        lineage=learner.knowledge.lineage,
        max_tokens=candidate.version.served.tokenizer.max_tokens,
        name_changes=candidate.name_changes,
        solution=candidate.solution,
        certainty=candidate.measured.certainty,
        label_space=_label_space(labels, candidate.threshold),
        format_version=3 if labels.kind == DEFAULT else 4,
    )


def _label_space(labels: LabelConfig, threshold: float) -> LabelSpace | msgspec.UnsetType:
    if labels.kind == DEFAULT:
        return msgspec.UNSET
    return LabelSpace(kind=labels.kind, threshold=threshold, low=labels.low, high=labels.high)


class ReferenceFinder:
    """Reads the plan each time, and the head only where another version, or another encoder, is wanted."""

    def __init__(self, store: Store, maker: CandidateMaker) -> None:
        self._store = store
        self._maker = maker
        self._wanted = (0, "")
        self._found: Reference | None = None
        self._held = NO_SAMPLES
        self._before: ServedEncoder | None = None

    def find(self, known: Knowledge) -> Reference | None:
        """Returns the reference of the plan in force: as a version if it has the encoder of `known`, else by the
        holdout samples that it named rightly, if these are known. Raises StoreUnavailable."""
        try:
            plan = self._store.plans.read()
            wanted = (plan.reference if plan else 0, known.fast_head.served.key)
            self._note_encoder_before(known)
            if wanted != self._wanted:
                self._wanted = wanted
                self._found = None
                self._found = self._load(wanted[0], known)
        except WireError as error:
            if self._found is not None:
                log.warning("no_reference", reason=str(error))
            self._found = None
            self._wanted = (0, "")
            if isinstance(error, StoreUnavailable):
                raise
        return self._found

    @property
    def is_settled(self) -> bool:
        """Whether the reference has the encoder in use, unless nothing is known of it."""
        return self._found is None or self._found.version is not None

    def forget(self) -> None:
        """Forgets the reference, and the hashes of samples with it: somebody was erased."""
        self._wanted = (0, "")
        self._found = None
        self._held = NO_SAMPLES
        self._before = None

    def _load(self, number: int, known: Knowledge) -> Reference | None:
        if not number:
            return None
        manifest = self._store.versions.manifest(number)
        served = _under_states_of(manifest, known.fast_head.served, self._store.blobs)
        found = self._maker.stored(manifest, known, self._store.blobs, served=served)
        if found is not None:
            self._before = None
            return Reference(number, found.version)
        encoder = self._before.key if self._before is not None and has_encoder(manifest, self._before) else ""
        parent = self._maker.parent
        if encoder and parent is not None and parent.version.served is self._before:
            named = self._maker.stored(manifest, known, self._store.blobs, served=self._before)
            if named is not None:
                self._held = msgspec.structs.replace(named.measured.record, version=number)
        held = self._held if self._held.version == number else NO_SAMPLES
        return Reference(number, None, encoder, held) if encoder or held is not NO_SAMPLES else None

    def _note_encoder_before(self, known: Knowledge) -> None:
        parent = self._maker.parent
        if parent is not None and parent.version.served.key != known.fast_head.served.key:
            self._before = parent.version.served


def _under_states_of(manifest: WeightManifest, served: ServedEncoder, blobs: Blobs) -> ServedEncoder:
    """Returns an encoder with the tensors of inputs that a version has. Raises NotFound, BlobCorrupt."""
    own = {name: tensor.entry.digest for name, tensor in served.states.items()}
    if own == {name: digest for name, digest in manifest.encoder_digests.items() if is_state(name)}:
        return served
    return served.with_states(stored_states(manifest, blobs))
