"""What a version makes of some texts: its best classes with their probabilities, and what it names, for the receipt.

    z_BD --each version's head--> logits --one class: softmax, the highest; sets: sigmoid, all above 0--> Scored, names
                                         --scores: the logit, between 0 and 1, is the place in the range-->

Rejected: one ranking for both kinds (a class that is named and the best class are the same only where it is one).

Shape suffixes: B texts of one encoder, D width, R random features, C classes, K best classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from model.quantized import RandomFeatures
from serving.models import Version
from wire.receipts import MAX_NAMED, Named, name_hash
from wire.targets import unit_bits

Scores: TypeAlias = tuple[tuple[str, float], ...]


class Scored(NamedTuple):
    """The best classes of a text, none while no class is known, and how certain the version is (None: nobody asks).

    `labels` are the classes that are named, where labels are sets of them, and `value` is the score where they are
    that.
    """

    scores: Scores
    certainty: float | None = None
    labels: tuple[str, ...] | None = None
    value: float | None = None


VersionNames: TypeAlias = tuple[tuple[int, Named], ...]
"""Pairs of a version and the hash of what it names, by ascending version."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The logits of some texts under one version of single classes, and its best classes, best first."""

    version: Version
    logits_BC: Tensor
    classes_BK: Tensor

    def scored(self, indices: Sequence[int]) -> list[Scored]:
        """Returns the best classes of these rows with their probabilities, and how certain the version is.

        Raises ValueError where a score is not finite.
        """
        classes_BK = self.classes_BK[indices]
        logits_BC = self.logits_BC[indices]
        values_BK = torch.softmax(logits_BC, dim=1).gather(1, classes_BK)
        if not torch.isfinite(values_BK).all():
            raise ValueError(f"version {self.version.number} gives a score that is not finite")
        labels = self.version.model.labels
        refusal = self.version.refusal
        certainties = refusal.certainties(logits_BC) if refusal else [None] * len(logits_BC)
        found: list[Scored] = []
        for classes, values, certainty in zip(classes_BK.tolist(), values_BK.tolist(), certainties, strict=True):
            names = [labels[index] for index in classes]
            found.append(Scored(tuple(zip(names, values, strict=True)), certainty))
        return found

    def names(self) -> list[tuple[int, Named]]:
        """Returns the version, and the hash of its best class, for each row."""
        labels = self.version.model.labels
        if not labels:
            return [(self.version.number, name_hash(None))] * len(self.logits_BC)
        return [(self.version.number, name_hash(labels[index])) for index in self.classes_BK[:, 0].tolist()]


@dataclass(frozen=True, slots=True)
class SetRanking:
    """The same under a version of sets of classes: named are the classes whose logit is above 0, at most MAX_NAMED."""

    version: Version
    logits_BC: Tensor
    classes_BK: Tensor
    top_scores: int

    def scored(self, indices: Sequence[int]) -> list[Scored]:
        """Returns the best classes of these rows with their probabilities, and all that are named.

        Raises ValueError where a score is not finite.
        """
        classes_BK = self.classes_BK[indices]
        values_BK = torch.sigmoid(self.logits_BC[indices]).gather(1, classes_BK)
        if not torch.isfinite(values_BK).all():
            raise ValueError(f"version {self.version.number} gives a score that is not finite")
        labels = self.version.model.labels
        found: list[Scored] = []
        for row, classes, values in zip(indices, classes_BK.tolist(), values_BK.tolist(), strict=True):
            named = self._named(row)
            scores = [(labels[index], value) for index, value in zip(classes, values, strict=True)]
            found.append(Scored(tuple(scores[: max(self.top_scores, len(named))]), labels=named if labels else None))
        return found

    def names(self) -> list[tuple[int, Named]]:
        """Returns the version, and the hashes of what it names, for each row; 0 while it knows no class."""
        if not self.version.model.labels:
            return [(self.version.number, name_hash(None))] * len(self.logits_BC)
        return [(self.version.number, tuple(map(name_hash, self._named(row)))) for row in range(len(self.logits_BC))]

    def _named(self, row: int) -> tuple[str, ...]:
        """Returns the classes that are named, best first."""
        classes_K = self.classes_BK[row, :MAX_NAMED]
        named_K = classes_K[self.logits_BC[row, classes_K] > 0]
        return tuple(self.version.model.labels[index] for index in named_K.tolist())


@dataclass(frozen=True, slots=True)
class Expected:
    """The same under a version of scores: the logit of the only row is the place of the score in its range."""

    version: Version
    logits_BC: Tensor

    def scored(self, indices: Sequence[int]) -> list[Scored]:
        """Returns the score of each row; none while no label is known. Raises ValueError where it is not finite."""
        version = self.version
        space = version.labelled
        if not version.model.labels:
            return [Scored(())] * len(indices)
        logits_B = self.logits_BC[indices, 0]
        if not torch.isfinite(logits_B).all():
            raise ValueError(f"version {version.number} gives a score that is not finite")
        units = logits_B.clamp(0.0, 1.0).tolist()
        return [Scored((), value=space.low + unit * (space.high - space.low)) for unit in units]

    def names(self) -> list[tuple[int, Named]]:
        """Returns the version, and the place of the score, for each row; 0 while no label is known."""
        number = self.version.number
        if not self.version.model.labels:
            return [(number, name_hash(None))] * len(self.logits_BC)
        return [(number, unit_bits(unit)) for unit in self.logits_BC[:, 0].clamp(0.0, 1.0).tolist()]


AnyRanking: TypeAlias = Ranking | SetRanking | Expected


def names_by_row(rankings: Mapping[int, AnyRanking]) -> list[VersionNames]:
    """Returns what all versions name, for each row."""
    columns = [ranking.names() for ranking in rankings.values()]
    return list(zip(*columns, strict=True))


def rankings_of(z_BD: Tensor, versions: Sequence[Version], top_scores: int) -> dict[int, AnyRanking]:
    """Returns what each version makes of the texts, by its number. Versions with one projection share its features."""
    features: dict[RandomFeatures, Tensor] = {}
    rankings: dict[int, AnyRanking] = {}
    for version in versions:
        head = version.model.head
        if head.features not in features:
            features[head.features] = head.features.of(z_BD)
        num_labels = len(version.model.labels)
        logits_BC = head.logits_of(features[head.features], num_labels)
        if version.labelled.kind == "score":
            rankings[version.number] = Expected(version, logits_BC)
            continue
        num_best = max(top_scores, MAX_NAMED) if version.labelled.kind == "multilabel" else top_scores
        classes_BK = logits_BC.topk(min(num_best, num_labels), dim=1).indices
        if version.labelled.kind == "multilabel":
            rankings[version.number] = SetRanking(version, logits_BC, classes_BK, top_scores)
        else:
            rankings[version.number] = Ranking(version, logits_BC, classes_BK)
    return rankings
