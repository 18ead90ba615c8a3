"""A version in the making: stored tensors, and what was measured through them.

sums --solve--> W --temperature--> head.out --bytes--> QuantizedHead --> probes; accuracy beside parent and anchor
                                                                and for every precision: accuracy, parity
"""

from dataclasses import dataclass

from torch import Tensor

from learner.config import LearnerConfig
from learner.export import Stored, stored_head
from learner.learner import Learner
from learner.quality.evaluation import MeasuredCandidate, ScoredVersion, measure
from learner.quality.parity import Parity
from learner.quality.temperature import fit_temperature
from learner.stopwatch import Stopwatch
from model.head import OUT
from model.quantized import PRECISIONS, QuantizedHead
from wire.records import PrecisionEvaluation, Probe

NEW_PARITY_TEXTS = 16
"""Texts of the stream that are added to the parity texts at one version, or a few more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What would be published. `tensors` is the whole version, by name."""

    version: ScoredVersion
    tensors: dict[str, Stored]
    measured: MeasuredCandidate
    precisions: tuple[PrecisionEvaluation, ...]
    probes: tuple[Probe, ...]


class Maker:
    """Makes candidates, and remembers the last published one, which the next is compared with."""

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self._parity: dict[str, Parity] = {}
        self.parent: Candidate | None = None

    def make(self, learner: Learner, steps: Stopwatch) -> Candidate:
        """The version that `learner` would publish now. Sets its temperature. Raises NonFinite."""
        tier = learner.tier
        served = tier.served
        classes = tier.head.classes
        weights_CR = tier.head.solve()
        steps.end("solve")
        z_ND, rows_N = learner.holdout.vectors(served, classes)
        is_known = rows_N >= 0
        logits_NC = served.features(z_ND[is_known]) @ weights_CR.T
        learner.temperature = fit_temperature(logits_NC, rows_N[is_known])
        steps.end("temperature")
        out = stored_head(served.config, weights_CR, temperature=learner.temperature)
        head = served.head(out)
        steps.end("requantize")
        top = {name: value.clone() for name, value in learner.top.items()}  # a restore writes into the learner's own
        version = ScoredVersion(served, head, classes, weights_CR, top)
        parent = self.parent.version if self.parent else None
        measured = measure(version, parent, learner.anchor, learner.holdout)
        parity = self._parity_of(learner)
        probes = parity.logits(head, len(classes), self._config.probes)
        steps.end("evaluate")
        precisions = tuple(_measured(name, learner, parity, head, weights_CR) for name in PRECISIONS)
        steps.end("precisions")
        return Candidate(
            version=version,
            tensors=served.tensors | {OUT: out},
            measured=measured,
            precisions=precisions,
            probes=tuple(Probe(text=text, logits=tuple(logits_C.tolist())) for text, logits_C in probes),
        )

    def published(self, candidate: Candidate, learner: Learner) -> None:
        """The candidate is the parent of the next, and the anchor where it takes the place of the one before."""
        self.parent = candidate
        learner.anchor = candidate.measured.next_anchor(learner.anchor, learner.version)
        learner.holdout.keep({candidate.version.served.key} | learner.encoder_keys)

    def forget(self) -> None:
        """Neither the parent nor any text is remembered."""
        self.parent = None
        self._parity = {}

    def _parity_of(self, learner: Learner) -> Parity:
        served = learner.tier.served
        config = self._config
        if served.key not in self._parity:
            new = Parity(served, learner.strata, max_texts=config.parity_texts, seed=config.seed)
            self._parity = {served.key: new}
        parity = self._parity[served.key]
        if parity.room:
            known = learner.holdout.samples.samples() + learner.replay.samples()
            parity.add(sample.text for sample in known[:: max(len(known) // NEW_PARITY_TEXTS, 1)])
        return parity


def _measured(
    precision: str, learner: Learner, parity: Parity, head: QuantizedHead, weights_CR: Tensor
) -> PrecisionEvaluation:
    """What `head`, which is `weights_CR` as served, reaches behind the encoder in this precision."""
    holdout = learner.holdout
    served = learner.tier.served
    classes = learner.tier.head.classes
    return PrecisionEvaluation(
        name=precision,
        accuracy=holdout.accuracy(served, head, classes, precision=precision, samples=holdout.few),
        cosine=parity.cosine(precision),
        agreement=parity.agreement(precision, head, weights_CR),
    )
