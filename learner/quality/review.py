"""What is measured now and then rather than for each version: the temperature, and the served precisions.

    new encoder: before its first version is sent        else: beside publications, every REVIEW_S, a unit at a time

One head after another changes these little, and they take longer than everything else that is measured: the cheaper
precision encodes texts of its own, and the temperature is a search. What a review finds holds for the versions after
it; a precision that has become too inaccurate refuses those (`learner.quality.gate`).
"""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from learner.config import LearnerConfig
from learner.knowledge import Knowledge
from learner.quality.class_weights import bias_of
from learner.quality.evaluation import ScoredVersion
from learner.quality.parity import Parity
from learner.quality.temperature import DEFAULT_THRESHOLD, fit_temperature, fit_threshold
from wire.records import PrecisionEvaluation, Probe

MAX_LOGITS: Final = 1 << 22
"""The most logits that the temperature is fitted on: with many classes, those of fewer samples."""

REVIEW_S: Final = 20.0
"""Time between two reviews of one encoder."""

NEW_PARITY_TEXTS: Final = 16
"""About this many texts of the stream are added to the parity texts at each review."""


class Review:
    """Reviews the versions of one encoder after another. `precisions` are those of the last review of `encoder`."""

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self._parity: Parity | None = None
        self._units: Iterator[None] | None = None
        self._next_s = 0.0
        self.encoder = ""
        self.precisions: tuple[PrecisionEvaluation, ...] = ()

    def calibrate(self, known: Knowledge, weights_CR: Tensor) -> None:
        """Fits the temperature of these weights on the holdout, and the threshold where labels are sets."""
        if known.labels.config.kind == "score":  # its logit is the score
            known.calibrate(1.0)
            return
        phi_NR, targets = known.holdout.features(known.fast_head.served, known.fast_head.ridge.classes)
        is_set = known.labels.config.kind == "multilabel"
        used_N = torch.ones(len(phi_NR), dtype=torch.bool) if is_set else targets.is_known_N
        used_N = used_N.nonzero().flatten()[:: len(phi_NR) * len(weights_CR) // MAX_LOGITS + 1]
        targets = targets.only(used_N)
        outputs_NC = phi_NR[used_N] @ weights_CR.T
        threshold = 0.0
        if is_set:
            threshold = fit_threshold(outputs_NC, targets.sets.has_NC) if targets.sets else DEFAULT_THRESHOLD
        known.calibrate(fit_temperature(outputs_NC - threshold, targets), threshold)

    def measure(self, known: Knowledge, version: ScoredVersion) -> tuple[PrecisionEvaluation, ...]:
        """Measures all precisions of `version` at once."""
        self._units = None
        for _ in self._measure(known, version):
            pass
        return self.precisions

    def step(self, known: Knowledge, version: ScoredVersion, now_s: float) -> None:
        """Does a unit of the review that is under way, or begins one of `version` where that is due.

        `version` was made of `known`, under the encoder that was measured last.
        """
        if self._units is None and now_s >= self._next_s:
            self._next_s = now_s + REVIEW_S
            self._units = self._review(known, version)
        if self._units is not None:
            self._units = self._units if next(self._units, "end") is None else None

    def _review(self, known: Knowledge, version: ScoredVersion) -> Iterator[None]:
        if len(version.classes) == len(known.fast_head.ridge.classes):
            self.calibrate(known, version.weights_CR)
            yield
        yield from self._measure(known, version)

    def _measure(self, known: Knowledge, version: ScoredVersion) -> Iterator[None]:
        parity = self._parity_of(known, version)
        if parity.room:
            samples = known.holdout.samples.samples() + known.replay.samples()
            parity.add(sample.text for sample in samples[:: max(len(samples) // NEW_PARITY_TEXTS, 1)])
            yield
        precisions: list[PrecisionEvaluation] = []
        for name in version.served.precisions:
            precisions.append(_evaluate(name, known, parity, version))
            yield
        self.encoder = version.served.key
        self.precisions = tuple(precisions)

    def probes(self, known: Knowledge, version: ScoredVersion) -> tuple[Probe, ...]:
        """Returns the texts by which a replica checks `version`, with their logits."""
        texts = self._parity_of(known, version).logits(version.head, len(version.classes), self._config.probes)
        return tuple(Probe(text=text, logits=tuple(logits_C.tolist())) for text, logits_C in texts)

    def forget(self) -> None:
        """Forgets all texts."""
        self._parity = None
        self._units = None
        self.encoder = ""

    def _parity_of(self, known: Knowledge, version: ScoredVersion) -> Parity:
        if self._parity is None or self._parity.served.key != version.served.key:
            config = self._config
            self._parity = Parity(version.served, known.strata, max_texts=config.parity_texts, seed=config.seed)
        return self._parity


def _evaluate(precision: str, known: Knowledge, parity: Parity, version: ScoredVersion) -> PrecisionEvaluation:
    """Measures the head of `version` on the output of the encoder in this precision."""
    served, head, classes, weights_CR, *_ = version
    texts = known.holdout.subset
    bias_C = bias_of(known.labels.class_weights, classes)
    if bias_C is not None:  # `weights_CR` are those before the temperature
        bias_C *= known.temperature
    return PrecisionEvaluation(
        name=precision,
        accuracy=known.holdout.accuracy(served, head, classes, precision=precision, samples=texts),
        cosine=parity.cosine(precision),
        agreement=parity.agreement(precision, head, weights_CR, threshold=known.fast_head.threshold, bias_C=bias_C),
    )
