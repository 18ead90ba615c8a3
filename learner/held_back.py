"""Held-back samples: labelled, never learnt, the same number of every class; what accuracy is measured on.

Their unit vectors are kept per encoder, so that two encoders can be compared without encoding everything twice.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from learner.replay import Labelled, Replay
from learner.requantize import ServedEncoder
from model.quantized import QuantizedHead


class HeldBack:
    """The samples, and their vectors under each encoder in use."""

    def __init__(self, samples: Replay) -> None:
        self.samples = samples
        self._vectors: dict[str, dict[str, Tensor]] = {}

    def add(self, samples: Iterable[Labelled]) -> None:
        self.samples.add(samples)

    def warm(self, encoder: ServedEncoder, limit: int) -> bool:
        """Encode at most `limit` samples that `encoder` has not seen; True when none is left."""
        known = self._vectors.setdefault(encoder.key, {})
        missing = list(dict.fromkeys(text for text, _ in self.samples.samples() if text not in known))
        for text, z_D in zip(missing[:limit], encoder.z_many(missing[:limit]), strict=True):
            known[text] = z_D
        return len(missing) <= limit

    def accuracy(self, encoder: ServedEncoder, head: QuantizedHead, classes: Sequence[str]) -> float:
        """Share of the samples that the head names rightly; 0 for no samples."""
        return float(self.correct(encoder, head, classes).float().mean()) if len(self) else 0.0

    def correct(self, encoder: ServedEncoder, head: QuantizedHead, classes: Sequence[str]) -> Tensor:
        """For each sample whether the head names it rightly, bool [N]; a class unknown to it is wrong."""
        z_ND, rows_N = self.vectors(encoder, classes)
        if not classes:
            return torch.zeros(len(rows_N), dtype=torch.bool)
        return head.logits(z_ND, len(classes)).argmax(dim=1) == rows_N

    def vectors(self, encoder: ServedEncoder, classes: Sequence[str]) -> tuple[Tensor, Tensor]:
        """z_ND of all samples and the row of each label in `classes`, -1 where it is none."""
        samples = self.samples.samples()
        self.warm(encoder, len(samples))
        known, rows = self._vectors[encoder.key], {label: row for row, label in enumerate(classes)}
        vectors = [known[text] for text, _ in samples]
        z_ND = torch.stack(vectors) if vectors else torch.empty(0, encoder.config.d_model)
        return z_ND, torch.tensor([rows.get(label, -1) for _, label in samples], dtype=torch.int64)

    def keep(self, encoders: Iterable[str]) -> None:
        """Forget the vectors under other encoders, and of samples that are gone."""
        texts = {text for text, _ in self.samples.samples()}
        self._vectors = {
            key: {text: z_D for text, z_D in self._vectors.get(key, {}).items() if text in texts} for key in encoders
        }

    def __len__(self) -> int:
        return len(self.samples)
