"""What is measured now and then rather than for each version: temperature, threshold, and the served precisions.

    new encoder: before its first version is sent        else: beside publications, every REVIEW_S, a unit at a time

    outputs of the holdout, their sets --fit_threshold--> threshold --fit_temperature--> T     p = sigmoid((o - t) / T)
    texts -> Strata (float32) -> z -> float32 head        cosine of the z, agreement of the named classes
          -> ServedEncoder (INT8, INT4) -> z -> INT8 head

One head after another changes these little, and they take longer than everything else that is measured: the cheaper
precision encodes texts of its own, and the temperature is a search. What a review finds holds for the versions after
it; a precision that has become too inaccurate refuses those (`learner.quality.gate`).

Ridge logits lie around 0 and 1 whatever the number of classes, so without a temperature every score would be near 1/C.
It is one number, folded into the head's weights, fitted by golden-section search on the mean log-likelihood (Guo et al.
2017, arXiv:1706.04599). The class with the highest score does not change. If labels are sets, a class is named whose
output is above one threshold, that of the highest micro-F1 on the holdout (Yang 2001 calls it SCut, with one for all
classes), and the temperature is that of the binary likelihood.

Rejected: Platt scaling per class, and a threshold per class (holdout samples are few).
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
from learner.quality.class_weights import bias_of
from learner.quality.evaluation import DEFAULT_TEMPERATURE, ScoredVersion
from learner.targets import Targets, mean_f1
from model.encoders import WholeEncoder
from model.head import features, projection
from model.quantized import QuantizedHead
from model.strata import encode_many
from wire.features import parts_of
from wire.records import PrecisionEvaluation, Probe

MIN_TEXTS = 16
"""Agreement is measured on no fewer texts of the stream than this."""

MAX_TOKENS = 32_768
"""Tokens of all texts together: those of four of the longest, or of 64 that have 512."""


class Parity:
    """Holds the vectors of at most `max_texts` texts in every precision, for one encoder."""

    def __init__(self, served: ServedEncoder, strata: WholeEncoder, *, max_texts: int, seed: int) -> None:
        self.served = served
        self._strata = strata
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
        """Adds new texts until there are `max_texts`, or MAX_TOKENS of them: long texts take long in float32."""
        new = [text for text in dict.fromkeys(texts) if text not in self.texts][: self.room]
        parts = [parts_of(content) for content in new]
        tokens = self.served.tokenizer.encode_many([text for text, _ in parts])
        ends = accumulate(map(len, tokens), initial=self._num_tokens)
        num_fitting = sum(end <= MAX_TOKENS for end in ends) - 1
        if num_fitting < len(new):
            self._max_texts = len(self.texts) + num_fitting
        new = new[:num_fitting]
        if new:
            self._num_tokens += sum(map(len, tokens[:num_fitting]))
            encode = partial(encode_many, self._strata, batch_size=ENCODE_BATCH)
            full_z_ND = self.served.joined(parts[:num_fitting], encode)
            self._full_z_ND = torch.cat((self._full_z_ND, full_z_ND))
            for precision, z_ND in self._served_z_ND.items():
                self._served_z_ND[precision] = torch.cat((z_ND, self.served.z_many(new, precision)))
            self.texts += new

    @property
    def room(self) -> int:
        """Texts that may still be added."""
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
        threshold: float = 0.0,
        bias_C: Tensor | None = None,
    ) -> float:
        """Returns the share of the stream's texts that are named alike in `precision` and in float32, in [0, 1].

        With a threshold, sets are named: it is the mean F1 of the two. `bias_C` is added to the outputs in float32.

        `head` reads the vectors in `precision`, `weights_CR` those in float32. 1 while there are too few texts. The
        built-in texts are left out: they belong to none of the classes, so rounding decides which one is named.
        """
        if not len(weights_CR) or len(self.texts) < self._num_probes + MIN_TEXTS:
            return 1.0
        full_z_ND = self._full_z_ND[self._num_probes :]
        served_z_ND = self._served_z_ND[precision][self._num_probes :]
        full_NC = features(full_z_ND, self._proj_RD) @ weights_CR.T
        if bias_C is not None:
            full_NC += bias_C
        served_NC = head.logits(served_z_ND, len(weights_CR))
        if threshold:
            return mean_f1(full_NC > threshold, served_NC > 0)
        return float((full_NC.argmax(dim=1) == served_NC.argmax(dim=1)).float().mean())

    def logits(self, head: QuantizedHead, num_labels: int, num_texts: int) -> list[tuple[str, Tensor]]:
        """Returns the probes: the first `num_texts` texts with their logits in the best precision."""
        logits_NC = head.logits(self._served_z_ND[self.served.precisions[0]][:num_texts], num_labels)
        return list(zip(self.texts, logits_NC, strict=False))


LOWEST: Final = 0.01
HIGHEST: Final = 1.0

DEFAULT_THRESHOLD: Final = 0.5
"""Used until the holdout has enough samples, where labels are sets: the outputs are fitted to 0 and 1."""

MIN_SAMPLES: Final = 50
STEPS: Final = 20
GOLDEN: Final = (5**0.5 - 1) / 2


def fit_threshold(outputs_BC: Tensor, has_BC: Tensor) -> float:
    """Returns the threshold of the highest micro-F1, 2 TP / (named + labelled), in the middle between two outputs.

    DEFAULT_THRESHOLD for fewer than MIN_SAMPLES samples, or where none has a class.

    >>> fit_threshold(torch.tensor([[0.9, 0.2]] * 50), torch.tensor([[True, False]] * 50))
    0.55
    """
    if len(outputs_BC) < MIN_SAMPLES or not has_BC.any():
        return DEFAULT_THRESHOLD
    outputs_M, order_M = outputs_BC.flatten().sort(descending=True)
    num_right_M = has_BC.flatten()[order_M].cumsum(dim=0)
    num_named_M = torch.arange(1, len(outputs_M) + 1)
    f1_M = 2 * num_right_M / (num_named_M + num_right_M[-1])
    f1_M[:-1][outputs_M[:-1] == outputs_M[1:]] = -1.0  # equal outputs are named together
    last = int(f1_M.argmax())
    below = outputs_M[min(last + 1, len(outputs_M) - 1)]
    return round(float(outputs_M[last] + below) / 2, 6)


def fit_temperature(logits_BC: Tensor, targets: Targets) -> float:
    """Returns the maximum-likelihood temperature in [LOWEST, HIGHEST].

    It is DEFAULT_TEMPERATURE for fewer than MIN_SAMPLES samples. The likelihood is unimodal in log T, which 20 golden
    sections narrow to a ten-thousandth of its range.
    """
    if len(logits_BC) < MIN_SAMPLES:
        return DEFAULT_TEMPERATURE

    def loss(log_t: Tensor) -> float:
        if targets.sets is None:
            return float(torch.nn.functional.cross_entropy(logits_BC / log_t.exp(), targets.rows_N))
        has_BC = targets.sets.has_NC.float()
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits_BC / log_t.exp(), has_BC))

    low = torch.tensor(LOWEST).log()
    high = torch.tensor(HIGHEST).log()
    for _ in range(STEPS):
        left = high - GOLDEN * (high - low)
        right = low + GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return float(((low + high) / 2).exp())


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
