"""Held-back samples: labelled, never learnt, the same number of every class; what accuracy is measured on.

    all samples  --INT8--> z --head--> accuracy, beside the parent's
    few of them  --every precision--> z --head--> accuracy of each

Their unit vectors are kept per encoder and precision, so that two versions can be compared without encoding everything
twice. Precisions are compared on the same few, because the cheaper ones are measured for the rollout, not for the gate,
and a publication waits for it.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from learner.export import ServedEncoder
from learner.memory.replay import Labelled, Replay
from model.quantized import INT8, PRECISIONS, QuantizedHead

NUM_FEW = 256
"""Samples on which all precisions are measured, or fewer. INT4 takes about 1 ms each."""


class Holdout:
    """The samples, and their vectors under each encoder in use."""

    def __init__(self, samples: Replay[Labelled]) -> None:
        self.samples = samples
        self._vectors: dict[tuple[str, str], dict[str, Tensor]] = {}

    def add(self, samples: Iterable[Labelled]) -> None:
        self.samples.add(samples)

    @property
    def few(self) -> list[Labelled]:
        """The samples that are measured in every precision."""
        return self.samples.some(NUM_FEW)

    def warm(self, encoder: ServedEncoder, limit: int) -> bool:
        """Encode at most `limit` samples in a precision they were not seen in yet; True when nothing is left."""
        todo = [
            (precision, text)
            for precision in PRECISIONS
            for text in self._missing(encoder, precision, self.samples.samples() if precision == INT8 else self.few)
        ]
        for precision in PRECISIONS:
            self._encode(encoder, precision, [text for wanted, text in todo[:limit] if wanted == precision])
        return len(todo) <= limit

    def accuracy(
        self,
        encoder: ServedEncoder,
        head: QuantizedHead,
        classes: Sequence[str],
        *,
        precision: str = INT8,
        samples: Sequence[Labelled] | None = None,
    ) -> float:
        """Share of the samples (all, unless others are given) that the head names rightly; 0 for no samples."""
        z_ND, rows_N = self.vectors(encoder, classes, precision=precision, samples=samples)
        return float(_correct(z_ND, rows_N, head, len(classes)).float().mean()) if len(z_ND) else 0.0

    def correct(self, encoder: ServedEncoder, head: QuantizedHead, classes: Sequence[str]) -> Tensor:
        """For each sample whether the head names it rightly, bool [N]; a class unknown to it is wrong."""
        return _correct(*self.vectors(encoder, classes), head, len(classes))

    def vectors(
        self,
        encoder: ServedEncoder,
        classes: Sequence[str],
        *,
        precision: str = INT8,
        samples: Sequence[Labelled] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """z_ND of the samples (all, unless others are given), the row of each label in `classes`, -1 where none."""
        samples = self.samples.samples() if samples is None else samples
        self._encode(encoder, precision, self._missing(encoder, precision, samples))
        known = self._vectors.get((encoder.key, precision), {})
        rows = {label: row for row, label in enumerate(classes)}
        vectors = [known[sample.text] for sample in samples]
        z_ND = torch.stack(vectors) if vectors else torch.empty(0, encoder.config.d_model)
        return z_ND, torch.tensor([rows.get(sample.label, -1) for sample in samples], dtype=torch.int64)

    def keep(self, encoders: Iterable[str]) -> None:
        """Forget the vectors under other encoders, and of samples that are gone."""
        kept = set(encoders)
        texts = {sample.text for sample in self.samples.samples()}
        self._vectors = {
            (key, precision): {text: z_D for text, z_D in vectors.items() if text in texts}
            for (key, precision), vectors in self._vectors.items()
            if key in kept
        }

    def __len__(self) -> int:
        return len(self.samples)

    def _missing(self, encoder: ServedEncoder, precision: str, samples: Iterable[Labelled]) -> list[str]:
        known = self._vectors.get((encoder.key, precision), {})
        return list(dict.fromkeys(sample.text for sample in samples if sample.text not in known))

    def _encode(self, encoder: ServedEncoder, precision: str, texts: Sequence[str]) -> None:
        known = self._vectors.setdefault((encoder.key, precision), {})
        known |= zip(texts, encoder.z_many(texts, precision), strict=True)


def _correct(z_ND: Tensor, rows_N: Tensor, head: QuantizedHead, num_classes: int) -> Tensor:
    if not num_classes:
        return torch.zeros(len(rows_N), dtype=torch.bool)
    return head.logits(z_ND, num_classes).argmax(dim=1) == rows_N
