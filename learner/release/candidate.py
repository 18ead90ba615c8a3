"""A version in the making: its stored tensors, what was measured through them, and what goes to the store for it.

sums --solve--> W --temperature--> head.out --bytes--> QuantizedHead --> probes; accuracy beside parent and anchor
                                                                and for every precision: accuracy, parity
Candidate --> the blobs that the store lacks, then the manifest that names them all
"""

from dataclasses import dataclass

from torch import Tensor

from learner.config import LearnerConfig
from learner.export import StoredTensor, export_head
from learner.failpoints import failpoint
from learner.knowledge import Knowledge
from learner.learner import Learner
from learner.quality.evaluation import MeasuredCandidate, ScoredVersion, measure
from learner.quality.parity import Parity
from learner.quality.temperature import fit_temperature
from learner.stopwatch import Stopwatch
from model.head import OUT
from model.quantized import PRECISIONS, QuantizedHead
from wire.records import PrecisionEvaluation, Probe, WeightManifest
from wire.store import Blobs

NEW_PARITY_TEXTS = 16
"""About this many texts of the stream are added to the parity texts at each version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What would be published. `tensors` are all tensors of the version, by name."""

    version: ScoredVersion
    tensors: dict[str, StoredTensor]
    measured: MeasuredCandidate
    precisions: tuple[PrecisionEvaluation, ...]
    probes: tuple[Probe, ...]


class CandidateMaker:
    """Makes candidates. `parent` is the last one that was published: the next one is compared with it."""

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self._parity: dict[str, Parity] = {}
        self.parent: Candidate | None = None

    def make(self, known: Knowledge, stopwatch: Stopwatch) -> Candidate:
        """Makes the version that `known` would be published as now; calibrates its temperature. Raises NonFinite."""
        fast_head = known.fast_head
        served = fast_head.served
        classes = fast_head.ridge.classes
        weights_CR = fast_head.ridge.solve()
        stopwatch.end("solve")
        z_ND, rows_N = known.holdout.vectors(served, classes)
        is_known = rows_N >= 0
        logits_NC = served.features(z_ND[is_known]) @ weights_CR.T
        known.calibrate(fit_temperature(logits_NC, rows_N[is_known]))
        stopwatch.end("temperature")
        out = export_head(served.config, weights_CR, temperature=known.temperature)
        head = served.head(out)
        stopwatch.end("requantize")
        top = {name: value.clone() for name, value in known.top.items()}  # copies: those of `known` may change
        version = ScoredVersion(served, head, classes, weights_CR, top)
        parent = self.parent.version if self.parent else None
        measured = measure(version, parent, known.anchor, known.holdout)
        parity = self._parity_of(known)
        probes = parity.logits(head, len(classes), self._config.probes)
        stopwatch.end("evaluate")
        precisions = tuple(_evaluate_precision(name, known, parity, head, weights_CR) for name in PRECISIONS)
        stopwatch.end("precisions")
        return Candidate(
            version=version,
            tensors=served.tensors | {OUT: out},
            measured=measured,
            precisions=precisions,
            probes=tuple(Probe(text=text, logits=tuple(logits_C.tolist())) for text, logits_C in probes),
        )

    def adopt(self, candidate: Candidate, learner: Learner) -> None:
        """Makes `candidate`, which was published as the learner's version, the parent of the next one."""
        self.parent = candidate
        known = learner.knowledge
        known.follow_anchor(candidate.measured, learner.version)
        known.holdout.keep({candidate.version.served.key} | known.encoder_keys)

    def forget(self) -> None:
        """Forgets the parent and all parity texts."""
        self.parent = None
        self._parity = {}

    def _parity_of(self, known: Knowledge) -> Parity:
        served = known.fast_head.served
        config = self._config
        if served.key not in self._parity:
            new = Parity(served, known.strata, max_texts=config.parity_texts, seed=config.seed)
            self._parity = {served.key: new}
        parity = self._parity[served.key]
        if parity.room:
            samples = known.holdout.samples.samples() + known.replay.samples()
            parity.add(sample.text for sample in samples[:: max(len(samples) // NEW_PARITY_TEXTS, 1)])
        return parity


def _evaluate_precision(
    precision: str, known: Knowledge, parity: Parity, head: QuantizedHead, weights_CR: Tensor
) -> PrecisionEvaluation:
    """Measures `head`, which is `weights_CR` as served, on the output of the encoder in this precision."""
    holdout = known.holdout
    served = known.fast_head.served
    classes = known.fast_head.ridge.classes
    return PrecisionEvaluation(
        name=precision,
        accuracy=holdout.accuracy(served, head, classes, precision=precision, samples=holdout.subset),
        cosine=parity.cosine(precision),
        agreement=parity.agreement(precision, head, weights_CR),
    )


def manifest_of(candidate: Candidate, learner: Learner, *, version: int, epoch: int, time_ms: int) -> WeightManifest:
    """Returns the manifest of `candidate` as `version`, whose parent is the learner's version."""
    return WeightManifest(
        version=version,
        parent=learner.version,
        model_spec=learner.model_spec,
        config=candidate.version.served.config.canonical_json(),
        labels=candidate.version.classes,
        precisions=candidate.precisions,
        tensors=tuple(candidate.tensors[name].entry for name in sorted(candidate.tensors)),
        probes=candidate.probes,
        trained_through=dict(learner.offsets),
        evaluation=candidate.measured.evaluation,
        epoch=epoch,
        created_ms=time_ms,
        erased=len(learner.erased),
        lineage=learner.knowledge.lineage,
        max_tokens=candidate.version.served.tokenizer.max_tokens,
    )


def put_blobs(candidate: Candidate, blobs: Blobs) -> None:
    """Sends the blobs that the store does not have."""
    stored = {tensor.entry.digest: tensor for tensor in candidate.tensors.values()}
    for digest in stored.keys() - blobs.has(stored):
        blobs.put(stored[digest].tensor.to_blob())
        failpoint("after-blob")
