"""Measures how close the served precisions are to full precision: the same texts go through all of them.

texts -> Strata (float32) -> z -> float32 head        cosine of the z, agreement of the named classes
      -> ServedEncoder (INT8, INT4) -> z -> INT8 head
"""

from collections.abc import Iterable
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from learner.export import ENCODE_BATCH, ServedEncoder
from learner.memory.targets import mean_f1
from model.encoders import WholeEncoder
from model.head import features, projection
from model.quantized import QuantizedHead
from model.strata import encode_many
from wire.features import parts_of

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
