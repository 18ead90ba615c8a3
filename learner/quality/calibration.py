"""Calibration: fits temperature and threshold, and measures the served precisions, at intervals.

    outputs of the holdout --the kind of its labels--> threshold t, temperature T             logits = (outputs - t) / T
    texts -> Strata (float32) -> z -> float32 head        cosine of the z, agreement of the predicted classes
          -> ServedEncoder (INT8, INT4) -> z -> INT8 head

A review makes all of these measurements. There is a review before the first version with a new encoder is sent. Further
reviews begin every REVIEW_S seconds, and are made a unit at a time between publications. They are not made for each
version, because they take longer than all other measurements, and their results change little from one head to the
next: the cheaper precision has to encode texts, and the temperature needs a search. The results of a review are used
for all versions until the next review. If a precision has become too inaccurate, the gate refuses these versions.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from learner.config import LearnerConfig
from learner.encoder.served import ENCODE_BATCH, ServedEncoder
from learner.knowledge import Knowledge
from learner.quality.class_weights import class_bias
from learner.quality.evaluation import ScoredVersion
from model.head import features, projection
from model.kinds import KindTensors, tensors_of
from model.packed import WholeEncoder
from model.quantized import QuantizedHead
from model.strata import encode_many
from wire.records import PrecisionEvaluation, Probe

MIN_TEXTS = 16
"""The fewest texts of the stream from which the agreement is measured."""

MAX_TOKENS = 32_768
"""The most tokens of all parity texts together: four texts of the greatest length, or 64 texts of 512 tokens."""


class Parity:
    """Compares a quantized encoder with full precision: the vectors of the same texts in each precision and in float32.

    At most `max_texts` texts are compared.
    """

    def __init__(self, served: ServedEncoder, encoder: WholeEncoder, *, max_texts: int, seed: int) -> None:
        self.served = served
        self._encoder = encoder
        self._max_texts = max_texts
        self._proj_RD = projection(served.config, seed=seed)
        self._num_probes = len(set(served.tokenizer.probe_texts))
        self.texts: list[str] = []
        self._num_tokens = 0
        self._full_z_ND = torch.empty(0, served.config.d_model)
        self._served_z_ND = {precision: self._full_z_ND for precision in served.precisions}
        self.add(served.tokenizer.probe_texts)

    @torch.no_grad()
    def add(self, texts: Iterable[str]) -> None:
        """Adds new texts up to `max_texts` texts and MAX_TOKENS tokens, since float32 is slow on long texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self.texts][: self.room]
        tokens = self.served.tokens(new)
        ends = accumulate(map(len, tokens), initial=self._num_tokens)
        num_fitting = sum(end <= MAX_TOKENS for end in ends) - 1
        if num_fitting < len(new):
            # The token budget is used up, so no further texts are added.
            self._max_texts = len(self.texts) + num_fitting
        new = new[:num_fitting]
        if new:
            self._num_tokens += sum(map(len, tokens[:num_fitting]))
            encode = partial(encode_many, self._encoder, batch_size=ENCODE_BATCH)
            full_z_ND = self.served.joined(new, encode)
            self._full_z_ND = torch.cat((self._full_z_ND, full_z_ND))
            for precision, z_ND in self._served_z_ND.items():
                self._served_z_ND[precision] = torch.cat((z_ND, self.served.z_many(new, precision)))
            self.texts += new

    @property
    def room(self) -> int:
        """The number of texts that may still be added."""
        return self._max_texts - len(self.texts)

    def cosine(self, precision: str) -> float:
        """Returns the mean cosine between the vectors of a text in `precision` and in full precision."""
        return float(functional.cosine_similarity(self._served_z_ND[precision], self._full_z_ND, dim=1).mean())

    def agreement(
        self,
        precision: str,
        head: QuantizedHead,
        weights_CR: Tensor,
        *,
        tensors: KindTensors,
        threshold: float = 0.0,
        bias_C: Tensor | None = None,
    ) -> float:
        """Returns how well the predictions in `precision` and in float32 agree, in [0, 1]; 1 if texts are too few.

        - `head`: predicts from the vectors in `precision`.
        - `weights_CR`, `bias_C`: predict from the vectors in float32.
        - `tensors`: the tensor functions of the labels' kind, which define the agreement.

        Only texts of the stream count. The built-in probe texts belong to no class, so rounding would decide how they
        are predicted.
        """
        if not len(weights_CR) or len(self.texts) < self._num_probes + MIN_TEXTS:
            return 1.0
        full_z_ND = self._full_z_ND[self._num_probes :]
        served_z_ND = self._served_z_ND[precision][self._num_probes :]
        full_NC = features(full_z_ND, self._proj_RD) @ weights_CR.T
        if bias_C is not None:
            full_NC += bias_C
        served_NC = head.logits(served_z_ND, len(weights_CR))
        return tensors.agreement(full_NC, served_NC, threshold)

    def logits(self, head: QuantizedHead, num_labels: int, num_texts: int) -> list[tuple[str, Tensor]]:
        """Returns the probes: the first `num_texts` texts, with their logits in the most accurate precision."""
        logits_NC = head.logits(self._served_z_ND[self.served.precisions[0]][:num_texts], num_labels)
        return list(zip(self.texts, logits_NC, strict=False))


MAX_LOGITS: Final = 1 << 22
"""The most logits to which the temperature is fitted. With many classes, these are the logits of fewer samples."""

REVIEW_S: Final = 20.0
"""The time between two reviews of one encoder, in seconds."""

NEW_PARITY_TEXTS: Final = 16
"""The approximate number of texts of the stream that each review adds to the parity texts."""


class Review:
    """Measures published versions at intervals. `precisions` are the results of the last review.

    `encoder` is the key of the encoder that was reviewed last.
    """

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self._parity: Parity | None = None
        self._units: Iterator[None] | None = None
        self._next_s = 0.0
        self._is_resumed = False
        self.encoder = ""
        self.precisions: tuple[PrecisionEvaluation, ...] = ()

    def calibrate(self, known: Knowledge, weights_CR: Tensor) -> None:
        """Fits the temperature and the threshold of these weights on the holdout, by the kind of the labels."""
        classes = known.fast_head.ridge.classes
        tensors = tensors_of(known.labels.kind)
        phi_NR, targets = known.holdout.features(known.fast_head.served, classes)
        if not len(phi_NR):
            targets = tensors.targets((), (), classes)
        # Every n-th sample, so that there are at most MAX_LOGITS logits.
        used_N = targets.calibrates_N.nonzero().flatten()[:: len(phi_NR) * len(weights_CR) // MAX_LOGITS + 1]
        calibration = tensors.calibrate(phi_NR[used_N] @ weights_CR.T, targets.only(used_N))
        known.calibrate(calibration.temperature, calibration.threshold)

    def resume(self, served: ServedEncoder, precisions: tuple[PrecisionEvaluation, ...]) -> None:
        """Continues after a restart with the results in the manifest of a version with this encoder.

        The next review begins REVIEW_S later. If the manifest lacks a precision, the next version is reviewed before it
        is sent.
        """
        if tuple(evaluation.name for evaluation in precisions) == served.precisions:
            self.encoder = served.key
            self.precisions = precisions
            self._is_resumed = True

    def measure(self, known: Knowledge, version: ScoredVersion) -> tuple[PrecisionEvaluation, ...]:
        """Measures all precisions of `version` now, in one call."""
        self._units = None
        for _ in self._measure(known, version):
            pass
        return self.precisions

    def step(self, known: Knowledge, version: ScoredVersion, now_s: float) -> None:
        """Does one unit of the review under way, or begins a review of `version` if one is due.

        `version` must have been made from `known`, with the encoder that was reviewed last.
        """
        if self._is_resumed:
            self._next_s = now_s + REVIEW_S
            self._is_resumed = False
        if self._units is None and now_s >= self._next_s:
            self._next_s = now_s + REVIEW_S
            self._units = self._review(known, version)
        if self._units is not None:
            is_over = next(self._units, "end") == "end"
            if is_over:
                self._units = None

    def _review(self, known: Knowledge, version: ScoredVersion) -> Iterator[None]:
        # If the version lacks the newest classes, its weights do not fit the targets of the holdout.
        if len(version.classes) == len(known.fast_head.ridge.classes):
            self.calibrate(known, version.weights_CR)
            yield
        yield from self._measure(known, version)

    def _measure(self, known: Knowledge, version: ScoredVersion) -> Iterator[None]:
        parity = self._compute_parity(known, version)
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
        """Returns the probes of `version`: texts and logits with which a replica checks that it loaded it right."""
        texts = self._compute_parity(known, version).logits(version.head, len(version.classes), self._config.probes)
        return tuple(Probe(text=text, logits=tuple(logits_C.tolist())) for text, logits_C in texts)

    def forget(self) -> None:
        """Forgets all texts, because of an erasure."""
        self._parity = None
        self._units = None
        self.encoder = ""

    def _compute_parity(self, known: Knowledge, version: ScoredVersion) -> Parity:
        if self._parity is None or self._parity.served.key != version.served.key:
            config = self._config
            self._parity = Parity(version.served, known.strata, max_texts=config.parity_texts, seed=config.seed)
        return self._parity


def _evaluate(precision: str, known: Knowledge, parity: Parity, version: ScoredVersion) -> PrecisionEvaluation:
    """Measures `version` in one precision of its encoder."""
    served, head, classes, weights_CR, *_ = version
    tensors = tensors_of(known.labels.kind)
    threshold = known.fast_head.threshold
    texts = known.holdout.subset
    bias_C = class_bias(known.labels.class_weights, classes)
    if bias_C is not None:
        # `weights_CR` are the weights before the division by the temperature.
        bias_C *= known.temperature
    return PrecisionEvaluation(
        name=precision,
        accuracy=known.holdout.accuracy(served, head, classes, precision=precision, samples=texts),
        cosine=parity.cosine(precision),
        agreement=parity.agreement(precision, head, weights_CR, threshold=threshold, tensors=tensors, bias_C=bias_C),
    )
