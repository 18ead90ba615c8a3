"""The holdout set: labelled samples that are never learnt, balanced by class, on which accuracy is measured.

    all samples  --best--> z --head--> accuracy, beside the parent's
    a subset     --every precision--> z --head--> accuracy of each

The unit vectors of the samples are cached per encoder and precision, so that two versions can be compared without
encoding everything twice. Precisions are compared on a fixed subset: the cheaper ones are measured for the rollout, not
for the gate, and a publication waits for the measurement.

Rejected: samples in proportion to the classes (a rare class would have hardly one to be measured on), and drawing some
of the replay memory (the head has learnt them).
"""

from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

import torch
from torch import Tensor

from learner.export import ServedEncoder
from learner.labels.sample import Labelled
from learner.memory.replay import Replay
from learner.memory.targets import Targets
from model.quantized import QuantizedHead

SUBSET_SIZE = 256
"""Largest number of samples on which all precisions are measured. INT4 takes about 1 ms for each."""


MAX_FEATURES = 2_000
"""The most samples whose features are cached under an encoder."""


class CachedFeatures(NamedTuple):
    """The features of these texts."""

    texts: list[str]
    phi_NR: Tensor

    def only(self, texts: Set[str]) -> "CachedFeatures":
        """Returns those of `texts`."""
        places = [place for place, text in enumerate(self.texts) if text in texts]
        if len(places) == len(self.texts):
            return self
        return CachedFeatures([self.texts[place] for place in places], self.phi_NR[places])


class Holdout:
    """Holds the samples, and a cache of their vectors under each encoder in use."""

    def __init__(self, samples: Replay[Labelled]) -> None:
        self.samples = samples
        self._vectors: dict[tuple[str, str], dict[str, Tensor]] = {}
        self._features: dict[str, CachedFeatures] = {}

    def add(self, samples: Iterable[Labelled]) -> None:
        self.samples.add(samples)

    @property
    def subset(self) -> list[Labelled]:
        """The samples that are measured in every precision."""
        return self.samples.subset(SUBSET_SIZE)

    def unencoded(self, encoder: ServedEncoder, precision: str) -> list[str]:
        """Returns the texts whose vectors under `encoder` are not cached; of `subset`, or all for the best."""
        samples = self.samples.samples() if precision == encoder.precisions[0] else self.subset
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
        precision: str | None = None,
        samples: Sequence[Labelled] | None = None,
    ) -> float:
        """Returns the share of `samples` (default: all) that the head names rightly, in [0, 1]; 0 for no samples.

        Default: in the encoder's most accurate precision.
        """
        z_ND, targets = self.vectors(encoder, classes, precision=precision, samples=samples)
        return float(targets.right(head.logits(z_ND, len(classes))).float().mean()) if len(z_ND) else 0.0

    def vectors(
        self,
        encoder: ServedEncoder,
        classes: Sequence[str],
        *,
        precision: str | None = None,
        samples: Sequence[Labelled] | None = None,
    ) -> tuple[Tensor, Targets]:
        """Returns z_ND of `samples` (default: all), and what their labels say of `classes`."""
        samples = self.samples.samples() if samples is None else samples
        precision = encoder.precisions[0] if precision is None else precision
        self._encode(encoder, precision, self._missing(encoder, precision, samples))
        cached = self._vectors.get((encoder.key, precision), {})
        vectors = [cached[sample.text] for sample in samples]
        z_ND = torch.stack(vectors) if vectors else torch.empty(0, encoder.config.d_model)
        return z_ND, targets_of(samples, classes)

    def features(self, encoder: ServedEncoder, classes: Sequence[str]) -> tuple[Tensor, Targets]:
        """Returns the random features phi_NR of all samples, and what their labels say of `classes`.

        Those of at most MAX_FEATURES samples are cached, 8 KB each at R = 2048. The caller does not change them.
        """
        samples = self.samples.samples()
        texts = [sample.text for sample in samples]
        cached = self._features.get(encoder.key)
        if cached is None or cached.texts != texts:
            cached = self._with_features(encoder, samples, texts, cached or CachedFeatures([], torch.empty(0, 0)))
            if len(texts) <= MAX_FEATURES:
                self._features[encoder.key] = cached
        return cached.phi_NR, targets_of(samples, classes)

    def keep(self, encoders: Iterable[str]) -> None:
        """Keeps what is cached of present samples under these encoders."""
        keys = set(encoders)
        texts = {sample.text for sample in self.samples.samples()}
        self._features = {key: cached.only(texts) for key, cached in self._features.items() if key in keys}
        remaining: dict[tuple[str, str], dict[str, Tensor]] = {}
        for (key, precision), vectors in self._vectors.items():
            if key in keys:
                remaining[key, precision] = {text: z_D for text, z_D in vectors.items() if text in texts}
        self._vectors = remaining

    def __len__(self) -> int:
        return len(self.samples)

    def _with_features(
        self, encoder: ServedEncoder, samples: Sequence[Labelled], texts: list[str], cached: CachedFeatures
    ) -> CachedFeatures:
        """Returns the features of `samples`, which have these texts; those that are cached are copied."""
        place_of = {text: place for place, text in enumerate(cached.texts)}
        known = [place for place, text in enumerate(texts) if text in place_of]
        missing = [place for place, text in enumerate(texts) if text not in place_of]
        z_MD, _ = self.vectors(encoder, (), samples=[samples[place] for place in missing])
        phi_NR = torch.empty(len(texts), encoder.config.head_features)
        phi_NR[missing] = encoder.features(z_MD)
        if known:
            phi_NR[known] = cached.phi_NR[[place_of[texts[place]] for place in known]]
        return CachedFeatures(texts, phi_NR)

    def _missing(self, encoder: ServedEncoder, precision: str, samples: Iterable[Labelled]) -> list[str]:
        cached = self._vectors.get((encoder.key, precision), {})
        return list(dict.fromkeys(sample.text for sample in samples if sample.text not in cached))

    def _encode(self, encoder: ServedEncoder, precision: str, texts: Sequence[str]) -> None:
        self.add_vectors(encoder, precision, texts, encoder.z_many(texts, precision))


def targets_of(samples: Sequence[Labelled], classes: Sequence[str]) -> Targets:
    """Returns what the labels of `samples` say of `classes`."""
    return Targets.of([sample.label for sample in samples], [sample.text for sample in samples], classes)
