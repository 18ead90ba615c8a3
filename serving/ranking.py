"""What a version makes of some texts: what its answers say, and what it names, for the receipt.

    z_BD --each version's head--> logits --its kind of labels--> Predicted, fingerprints --certainty--> Scored, names

What logits mean is known to the kind of labels alone (`model.kinds`), which is asked once for a batch and version.

Shape suffixes: B texts of one encoder, D width, R random features, C rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from torch import Tensor

from model.kinds import Predicted, Ranked
from model.quantized import RandomFeatures
from serving.models import Version
from wire.kinds import Fingerprint


class Scored(NamedTuple):
    """What is said of a text, and how certain the version is (None: nobody asks)."""

    predicted: Predicted
    certainty: float | None = None


VersionNames: TypeAlias = tuple[tuple[int, Fingerprint], ...]
"""Pairs of a version and what it names, by ascending version."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The logits of some texts under one version, and what its kind of labels makes of them."""

    version: Version
    logits_BC: Tensor
    ranked: Ranked

    def scored(self, indices: Sequence[int]) -> list[Scored]:
        """Returns what is said of these rows, and how certain the version is.

        Raises ValueError if a score is not finite, or if the kind fails.
        """
        try:
            predictions = self.ranked.predictions(indices)
        except ValueError as error:
            raise ValueError(f"version {self.version.number}: {error}") from error
        if len(predictions) != len(indices):
            raise ValueError(f"{self._kind} says {len(predictions)} answers to {len(indices)} texts")
        refusal = self.version.refusal
        certainties = refusal.certainties(self.logits_BC[indices]) if refusal else [None] * len(indices)
        return list(map(Scored, predictions, certainties))

    def names(self) -> list[tuple[int, Fingerprint]]:
        """Returns the version, and the fingerprint of what it names, for each row. Raises ValueError if the kind
        fails."""
        fingerprints = self.ranked.fingerprints()
        if len(fingerprints) != len(self.logits_BC):
            raise ValueError(f"{self._kind} names {len(fingerprints)} of {len(self.logits_BC)} texts")
        number = self.version.number
        return [(number, fingerprint) for fingerprint in fingerprints]

    @property
    def _kind(self) -> str:
        return f"version {self.version.number}: its labels.kind {self.version.labelled.kind}"


def names_by_row(rankings: Mapping[int, Ranking]) -> list[VersionNames]:
    """Returns what all versions name, for each row."""
    columns = [ranking.names() for ranking in rankings.values()]
    return list(zip(*columns, strict=True))


def rankings_of(z_BD: Tensor, versions: Sequence[Version], top_scores: int) -> dict[int, Ranking]:
    """Returns what each version makes of the texts, by its number. Versions with one projection share its features."""
    features: dict[RandomFeatures, Tensor] = {}
    rankings: dict[int, Ranking] = {}
    for version in versions:
        head = version.model.head
        if head.features not in features:
            features[head.features] = head.features.of(z_BD)
        labels = version.model.labels
        logits_BC = head.logits_of(features[head.features], len(labels))
        ranked = version.tensors.rank(logits_BC, labels, version.labelled, top_scores)
        rankings[version.number] = Ranking(version, logits_BC, ranked)
    return rankings
