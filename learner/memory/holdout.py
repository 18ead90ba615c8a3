"""The holdout set: labelled samples that are never learnt, balanced by class, on which accuracy is measured.

    all samples  --INT8--> z --head--> accuracy, beside the parent's
    a subset     --every precision--> z --head--> accuracy of each

The unit vectors of the samples are cached per encoder and precision, so that two versions can be compared without
encoding everything twice. Precisions are compared on a fixed subset: the cheaper ones are measured for the rollout, not
for the gate, and a publication waits for the measurement.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from learner.export import ServedEncoder
from learner.memory.replay import Labelled, Replay
from model.quantized import INT8, QuantizedHead

SUBSET_SIZE = 256
"""Largest number of samples on which all precisions are measured. INT4 takes about 1 ms for each."""


class Holdout:
    """Holds the samples, and a cache of their vectors under each encoder in use."""

    def __init__(self, samples: Replay[Labelled]) -> None:
        self.samples = samples
        self._vectors: dict[tuple[str, str], dict[str, Tensor]] = {}

    def add(self, samples: Iterable[Labelled]) -> None:
        self.samples.add(samples)

    @property
    def subset(self) -> list[Labelled]:
        """The samples that are measured in every precision."""
        return self.samples.subset(SUBSET_SIZE)

    def unencoded(self, encoder: ServedEncoder, precision: str) -> list[str]:
        """Returns the texts whose vectors under `encoder` are not cached; for INT8 of all samples, else of `subset`."""
        samples = self.samples.samples() if precision == INT8 else self.subset
        return self._missing(encoder, precision, samples)

    def add_vectors(self, encoder: ServedEncoder, precision: str, texts: Sequence[str], z_ND: Tensor) -> None:
        """Caches the vectors of texts, which were encoded elsewhere."""
        cached = self._vectors.setdefault((encoder.key, precision), {})
        cached |= zip(texts, z_ND, strict=True)

    def accuracy(
        self,
        encoder: ServedEncoder,
        head: QuantizedHead,
        classes: Sequence[str],
        *,
        precision: str = INT8,
        samples: Sequence[Labelled] | None = None,
    ) -> float:
        """Returns the share of `samples` (default: all) that the head names rightly, in [0, 1]; 0 for no samples."""
        z_ND, rows_N = self.vectors(encoder, classes, precision=precision, samples=samples)
        return float(correct(z_ND, rows_N, head, len(classes)).float().mean()) if len(z_ND) else 0.0

    def vectors(
        self,
        encoder: ServedEncoder,
        classes: Sequence[str],
        *,
        precision: str = INT8,
        samples: Sequence[Labelled] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns z_ND of `samples` (default: all), and the row of each label in `classes`, -1 where it has none."""
        samples = self.samples.samples() if samples is None else samples
        self._encode(encoder, precision, self._missing(encoder, precision, samples))
        cached = self._vectors.get((encoder.key, precision), {})
        rows = {label: row for row, label in enumerate(classes)}
        vectors = [cached[sample.text] for sample in samples]
        z_ND = torch.stack(vectors) if vectors else torch.empty(0, encoder.config.d_model)
        return z_ND, torch.tensor([rows.get(sample.label, -1) for sample in samples], dtype=torch.int64)

    def keep(self, encoders: Iterable[str]) -> None:
        """Keeps the vectors of present samples under these encoders; drops all others from the cache."""
        keys = set(encoders)
        texts = {sample.text for sample in self.samples.samples()}
        remaining: dict[tuple[str, str], dict[str, Tensor]] = {}
        for (key, precision), vectors in self._vectors.items():
            if key in keys:
                remaining[key, precision] = {text: z_D for text, z_D in vectors.items() if text in texts}
        self._vectors = remaining

    def __len__(self) -> int:
        return len(self.samples)

    def _missing(self, encoder: ServedEncoder, precision: str, samples: Iterable[Labelled]) -> list[str]:
        cached = self._vectors.get((encoder.key, precision), {})
        return list(dict.fromkeys(sample.text for sample in samples if sample.text not in cached))

    def _encode(self, encoder: ServedEncoder, precision: str, texts: Sequence[str]) -> None:
        self.add_vectors(encoder, precision, texts, encoder.z_many(texts, precision))


def correct(z_ND: Tensor, rows_N: Tensor, head: QuantizedHead, num_classes: int) -> Tensor:
    """Returns whether the head names each sample rightly, bool [N]. Row -1, of an unknown class, is wrong."""
    if not num_classes:
        return torch.zeros(len(rows_N), dtype=torch.bool)
    return head.logits(z_ND, num_classes).argmax(dim=1) == rows_N
