"""Makes and evaluates a candidate: the model version that would be published now.

    sums --solve--> W --temperature--> head.out --bytes--> QuantizedHead --> probes, accuracy; also of parent and anchor
    plan.reference, current encoder --either has changed--> manifest and head from the store --> the baseline's head
                                    --the encoder is new--> the holdout samples that the baseline predicts correctly
    Candidate --> the blobs that the store lacks, then the manifest that lists all tensors

A candidate is compared with the baseline of the rollout: the `reference` version that the rollout plan names. The plan
is read for each publication. The rollout only promotes a version at once if it was compared with the baseline of the
current plan. If the baseline's encoder differs from the current encoder only in the scales of numbers
(`learner.standardisation`), the baseline reads events under its own scales.

If the baseline has another encoder, it cannot predict a text without encoding the text again. But the first version
with a new encoder is compared with its parent, which mostly has the encoder of the baseline. At that moment the vectors
of the holdout samples are known under both encoders. So the baseline's predictions are computed then. The hashes of the
samples that it predicts correctly are kept until the plan has another baseline. Its predictions on later samples are
unknown. If the baseline has the encoder before the current one, it is also compared by the trial of the current
encoder, which was against that encoder.

Rejected:

- Evaluating the weights before they are rounded: the evaluation must be of the served weights.
- Keeping the baseline's correct predictions in the checkpoint: without them, versions after a restart are compared by
  their labels only, which is good enough.
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
from learner.quality.class_weights import Weighted, class_bias
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
    """A version that may be published, with its evaluation. `tensors` has all tensors of the version, by name."""

    version: ScoredVersion
    tensors: dict[str, StoredTensor]
    measured: MeasuredCandidate
    precisions: tuple[PrecisionEvaluation, ...]
    probes: tuple[Probe, ...]
    solution: HeadSolution
    name_changes: NameChanges = NO_CHANGES
    threshold: float = 0.0


class CandidateMaker:
    """Makes candidates: solves, quantizes and evaluates the head.

    `parent` is the candidate that was published last. The next candidate is compared with it.
    """

    def __init__(self, config: LearnerConfig, executor: Executor | None = None) -> None:
        self._review = Review(config)
        self.solver = HeadSolver(executor)
        self.recent = RecentEvents(config.num_features)
        self.parent: Candidate | None = None
        # The number of changes of the set of labels that the parent and the recent events reflect.
        self._num_label_changes = 0

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
        """Makes and evaluates a candidate from the knowledge `known`, which contains the records below `offsets`.

        - `anew`: solve the head from all sums, and measure the temperature, the threshold and the precisions. A new
          encoder always requires this. Otherwise the head is updated by the labels since the last candidate, and the
          results of the last review are used.
        - `like`: make this version again, with its temperature and threshold.
        - `is_live`: the knowledge is the current one. The labels of an earlier state are not new evidence about recent
          events.

        Raises NonFinite.
        """
        served = known.fast_head.served
        if is_live:
            self._rename_classes(known.labels)
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
        out = _export_out(known, weights_CR)
        # With other class weights the parent was optimised for another objective, so it is not compared.
        parent = None if self.parent is None or self.has_other_weights(known) else self.parent.version
        top = _trained_blocks(known, parent)
        version = ScoredVersion(served, served.head(out), classes, weights_CR, top, known.base.key)
        stopwatch.end("requantize")
        measured = self._measure(known, version, parent)
        # New events are evidence about the parent, which has not learnt them yet.
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
            solution=self._describe_solution(known),
            threshold=known.fast_head.threshold,
            name_changes=self.recent.name_changes(version, measured.record, known.trial),
        )

    def _measure(self, known: Knowledge, version: ScoredVersion, parent: ScoredVersion | None) -> MeasuredCandidate:
        """Evaluates a version on the holdout, and compares it with its parent and the anchor."""
        anchor = None if self.has_other_weights(known) else known.anchor
        weighted = Weighted(known.labels.class_weights, known.fast_head.ridge.num_by_class)
        return measure(version, parent, anchor, known.holdout, weighted, space=known.labels.config)

    def _describe_solution(self, known: Knowledge) -> HeadSolution:
        """Returns the record of how the head was computed, for the manifest."""
        weights = dict(known.labels.config.class_weights) or msgspec.UNSET
        return msgspec.structs.replace(self.solver.solution, temperature=known.temperature, class_weights=weights)

    def has_other_weights(self, known: Knowledge) -> bool:
        """Returns whether the parent was made under other class weights, and so cannot be compared with a candidate."""
        if self.parent is None:
            return False
        return (self.parent.solution.class_weights or {}) != known.labels.config.class_weights

    def _rename_classes(self, labels: LabelSet) -> None:
        """Renames the classes of the parent and of the recent events, if the set of labels has changed.

        If classes of the parent were merged or retired, its rows no longer match the classes, and it is forgotten.
        """
        if labels.number == self._num_label_changes:
            return
        self._num_label_changes = labels.number
        self.recent.rename(labels)
        if self.parent is None:
            return
        version = self.parent.version
        classes = tuple(map(labels.name_of, version.classes))
        has_same_rows = len(set(classes)) == len(classes) and labels.retired.isdisjoint(classes)
        renamed = replace(self.parent, version=version._replace(classes=classes))
        self.parent = renamed if has_same_rows else None

    def review(self, known: Knowledge, now_s: float) -> None:
        """Runs a unit of a review of the parent (`learner.quality.calibration`), if one is due.

        The parent must have the current encoder.
        """
        if self.parent is not None and self.parent.version.served is known.fast_head.served:
            self._review.step(known, self.parent.version, now_s)

    def load(
        self, manifest: WeightManifest, known: Knowledge, blobs: Blobs, *, served: ServedEncoder | None = None
    ) -> Candidate | None:
        """Loads the published version `manifest`, with its head from the store, and evaluates it.

        Returns None if its encoder is not `served` (by default the encoder of `known`), or its head is missing or
        damaged.
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
        """Makes `candidate`, which was just published as the learner's version, the parent of the next candidate."""
        self.parent = candidate
        learner.knowledge.follow_anchor(candidate.measured, learner.version)
        learner.knowledge.holdout.keep({candidate.version.served.key} | learner.knowledge.encoder_keys)

    def resume(self, parent: Candidate) -> None:
        """Continues after a restart from the version `parent`, and with its review if the encoder is the same.

        So the first version is not reviewed before it is sent. A review takes longer than all other steps of a version,
        and after a restart many labels wait for the first version.
        """
        self.parent = parent
        self._review.resume(parent.version.served, parent.precisions)

    def forget(self) -> None:
        """Forgets the parent, the texts of the review and the recent events, because of an erasure."""
        self.parent = None
        self.recent.forget()
        self._review.forget()


def _export_out(known: Knowledge, weights_CR: Tensor) -> StoredTensor:
    """Returns the quantized output layer. It includes the temperature, the threshold and the class weights."""
    head = known.fast_head
    bias_C = class_bias(known.labels.class_weights, head.ridge.classes)
    return export_head(
        head.served.config, weights_CR, temperature=known.temperature, threshold=head.threshold, bias_C=bias_C
    )


def has_encoder(manifest: WeightManifest, served: ServedEncoder) -> bool:
    """Returns whether a version has the encoder `served`.

    Then its shape is the same, and its tensors are the same, except those of the output layer.
    """
    if config_from_json(manifest.config).without_labels != served.config.without_labels:
        return False
    entries = {entry.name: entry for entry in manifest.tensors if entry.name != OUT}
    return entries == {name: tensor.entry for name, tensor in served.tensors.items()}


def gate_limits(candidate: Candidate, parent: Candidate | None, known: Knowledge) -> GateLimits:
    """Returns the limits of the gate for a candidate.

    For the first candidate with an adopted encoder, the offer of the encoder says how much accuracy may be lost.
    """
    adopted = known.base.adopted
    is_first = parent is not None and parent.version.base != candidate.version.base
    return GateLimits.of(known.config, max_loss=adopted.max_loss if adopted and is_first else None)


def _trained_blocks(known: Knowledge, parent: ScoredVersion | None) -> Mapping[str, Tensor]:
    """Returns a copy of the trained blocks of the current encoder; the parent's, if it has the same encoder."""
    if parent is not None and parent.served.key == known.fast_head.served.key:
        return parent.top
    # A later round may change the tensors of the knowledge.
    return {name: value.clone() for name, value in known.top.items()}


def build_manifest(candidate: Candidate, learner: Learner, *, version: int, epoch: int, time_ms: int) -> WeightManifest:
    """Returns the manifest with which `candidate` is published as `version`. Its parent is the learner's version."""
    shape = candidate.version.head.config
    labels = learner.knowledge.labels.config
    return WeightManifest(
        version=version,
        parent=learner.version,
        model_spec=learner.knowledge.base.spec_for(shape.label_capacity),
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
    """Returns the kind of label of the manifest; unset for single classes, as in earlier formats."""
    if labels.kind == DEFAULT:
        return msgspec.UNSET
    return LabelSpace(kind=labels.kind, threshold=threshold, low=labels.low, high=labels.high)


class ReferenceFinder:
    """Finds the baseline of the rollout, with which candidates are compared.

    It reads the plan each time. It reads the baseline's head only if the baseline or the encoder has changed.
    """

    def __init__(self, store: Store, maker: CandidateMaker) -> None:
        self._store = store
        self._maker = maker
        # The baseline's version, and the key of the current encoder.
        self._wanted = (0, "")
        self._found: Reference | None = None
        # The holdout samples that the baseline predicts correctly under its own encoder.
        self._holdout_results = NO_SAMPLES
        # The encoder before the current one, until a baseline with the current encoder is found.
        self._before: ServedEncoder | None = None

    def find(self, known: Knowledge) -> Reference | None:
        """Returns the baseline of the current plan; None if there is none, or nothing is known about it.

        If it has the current encoder, the result contains its version. Otherwise it contains the holdout samples that
        the baseline predicted correctly, if these are known. Raises StoreUnavailable.
        """
        try:
            plan = self._store.plans.read()
            wanted = (plan.reference if plan else 0, known.fast_head.served.key)
            self._remember_encoder(known)
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
        """Whether the baseline has the current encoder, or nothing is known about the baseline."""
        return self._found is None or self._found.version is not None

    def forget(self) -> None:
        """Forgets the baseline and the hashes of its samples, because of an erasure."""
        self._wanted = (0, "")
        self._found = None
        self._holdout_results = NO_SAMPLES
        self._before = None

    def _load(self, number: int, known: Knowledge) -> Reference | None:
        """Loads version `number` as the baseline; None for 0, or if nothing is known about it. Raises WireError."""
        if not number:
            return None
        manifest = self._store.versions.manifest(number)
        served = _with_served_states(manifest, known.fast_head.served, self._store.blobs)
        loaded = self._maker.load(manifest, known, self._store.blobs, served=served)
        if loaded is not None:
            self._before = None
            return Reference(number, loaded.version)
        encoder = self._before.key if self._before is not None and has_encoder(manifest, self._before) else ""
        parent = self._maker.parent
        # As long as the parent has the previous encoder, the holdout's vectors under that encoder are cached.
        if encoder and parent is not None and parent.version.served is self._before:
            baseline = self._maker.load(manifest, known, self._store.blobs, served=self._before)
            if baseline is not None:
                self._holdout_results = msgspec.structs.replace(baseline.measured.record, version=number)
        results = self._holdout_results if self._holdout_results.version == number else NO_SAMPLES
        return Reference(number, None, encoder, results) if encoder or results is not NO_SAMPLES else None

    def _remember_encoder(self, known: Knowledge) -> None:
        """Remembers the encoder of the parent, if the knowledge has a new encoder."""
        parent = self._maker.parent
        if parent is not None and parent.version.served.key != known.fast_head.served.key:
            self._before = parent.version.served


def _with_served_states(manifest: WeightManifest, served: ServedEncoder, blobs: Blobs) -> ServedEncoder:
    """Returns `served` with the scales of numbers of a version instead of its own. Raises NotFound, BlobCorrupt."""
    own = {name: tensor.entry.digest for name, tensor in served.states.items()}
    if own == {name: digest for name, digest in manifest.encoder_digests.items() if is_state(name)}:
        return served
    return served.with_states(stored_states(manifest, blobs))
