"""The fast tier: what was learnt under one encoder. It belongs to that encoder; another one needs another.

    samples --served encoder--> z --random features--> phi --> sums of the ridge head; sums of z per class

All sums are exact, so that they depend neither on the order nor on the batching of the labels (`learner.fast.ridge`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from learner.export import ServedEncoder
from learner.fast.ridge import RidgeHead, on_grid
from learner.memory.replay import Labelled

Z_GRID = 2.0**24
"""The sums of z are multiples of its inverse: finer than float32 needs, and exact in float64 below 2^29 samples."""


UNIT = 64
"""Texts that are encoded at once where a tier is made anew."""


class FastTier:
    """An encoder with the sums of everything learnt under it."""

    def __init__(self, served: ServedEncoder, *, ridge: float) -> None:
        config = served.config
        self.served = served
        self.head = RidgeHead(config.head_features, config.label_capacity, ridge=ridge)
        self._ridge = ridge
        self._z_sums_CD = torch.zeros(config.label_capacity, config.d_model, dtype=torch.float64)

    def learn_many(self, samples: Sequence[Labelled]) -> Tensor:
        """Learn samples whose labels were admitted; returns how far each was from the nearest class mean before.

        Distances_B are 1 - cosine: 1 where no class has a sample yet.
        """
        if not samples:
            return torch.empty(0)
        z_BD = self.served.z_many([sample.text for sample in samples])
        labels = [sample.label for sample in samples]
        self.head.learn_many(self.served.features(z_BD), labels)
        distances_B = 1 - (z_BD @ self.means(self.head.classes).T).amax(dim=1)
        self._z_sums_CD.index_add_(0, self.head.rows_of(labels), on_grid(z_BD, Z_GRID))
        return distances_B

    def relearn(self, samples: Sequence[Labelled], *, after_unit: Callable[[], None] = lambda: None) -> None:
        """Learn many samples, a unit at a time, with `after_unit` after each: this takes seconds."""
        for first in range(0, len(samples), UNIT):
            self.learn_many(samples[first : first + UNIT])
            after_unit()

    def unlearn_many(self, samples: Sequence[Labelled]) -> None:
        """Take samples out that were learnt here: afterwards the tier is one that never saw them."""
        if not samples:
            return
        z_BD = self.served.z_many([sample.text for sample in samples])
        labels = [sample.label for sample in samples]
        self.head.unlearn_many(self.served.features(z_BD), labels)
        self._z_sums_CD.index_add_(0, self.head.rows_of(labels), -on_grid(z_BD, Z_GRID))

    def evict(self, samples: Sequence[Labelled], old: str, new: str) -> None:
        """Take out all of a class, which is `samples`, and give its row to another."""
        self.unlearn_many(samples)
        self.head.replace(old, new)

    def means(self, labels: Sequence[str]) -> Tensor:
        """The direction z_CD of each class, of unit length."""
        return torch.nn.functional.normalize(self._z_sums_CD[self.head.rows_of(labels)], dim=1).float()

    def successor(self, served: ServedEncoder) -> "FastTier":
        """The empty tier of the next encoder, with the same rows for the same classes."""
        tier = FastTier(served, ridge=self._ridge)
        tier.admit_all(self.head.classes)
        return tier

    def reordered(self, classes: Sequence[str]) -> "FastTier":
        """The same tier with its rows in the order of `classes`, which are all of its own."""
        rows_C = self.head.rows_of(classes)
        tier = FastTier(self.served, ridge=self._ridge)
        tier.restore({name: sums if name == "gram" else sums[rows_C] for name, sums in self.export().items()}, classes)
        return tier

    def admit_all(self, labels: Iterable[str]) -> None:
        """Give every label a row, in this order."""
        for label in labels:
            self.head.admit(label)

    def export(self) -> dict[str, Tensor]:
        """The sums by name; the classes go beside them."""
        return self.head.export() | {"z": self._z_sums_CD[: len(self.head.classes)].clone()}

    def restore(self, sums: Mapping[str, Tensor], classes: Sequence[str]) -> None:
        """Become the tier that `export` described."""
        self.head.restore(sums, classes)
        self._z_sums_CD.zero_()
        self._z_sums_CD[: len(classes)] = sums["z"]
