"""Makes predictions from vectors: the answer of each version to a text, and the fingerprint for the receipt.

    z_BD --each version's head--> logits --its kind of labels--> Predicted, fingerprints --certainty--> Scored

Only the kind of labels interprets logits (`model.kinds`). It is called once for each batch and version.

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
    """A version's prediction for a text, and its certainty in [0, 1]; None if the version refuses no answers."""

    predicted: Predicted
    certainty: float | None = None


VersionFingerprints: TypeAlias = tuple[tuple[int, Fingerprint], ...]
"""Pairs of a version's number and the fingerprint of its prediction, by ascending number."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The logits of some texts under one version, and their interpretation by the version's kind of labels."""

    version: Version
    logits_BC: Tensor
    ranked: Ranked

    def scored(self, indices: Sequence[int]) -> list[Scored]:
        """Returns the predictions and certainties for these rows.

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

    def fingerprints(self) -> list[tuple[int, Fingerprint]]:
        """Returns for each row the pair (the version's number, the fingerprint of its prediction).

        Raises ValueError if the kind fails.
        """
        fingerprints = self.ranked.fingerprints()
        if len(fingerprints) != len(self.logits_BC):
            raise ValueError(f"{self._kind} names {len(fingerprints)} of {len(self.logits_BC)} texts")
        number = self.version.number
        return [(number, fingerprint) for fingerprint in fingerprints]

    @property
    def _kind(self) -> str:
        return f"version {self.version.number}: its labels.kind {self.version.labelled.kind}"


def fingerprints_by_row(rankings: Mapping[int, Ranking]) -> list[VersionFingerprints]:
    """Returns the predictions of all versions, for each row."""
    columns = [ranking.fingerprints() for ranking in rankings.values()]
    return list(zip(*columns, strict=True))


def rank_texts(z_BD: Tensor, versions: Sequence[Version], top_scores: int) -> dict[int, Ranking]:
    """Returns each version's ranking of the texts, by its number.

    Versions with the same random projection share its features. A ranking has at most `top_scores` classes for each
    text.
    """
    features: dict[RandomFeatures, Tensor] = {}
    rankings: dict[int, Ranking] = {}
    for version in versions:
        head = version.model.head
        if head.features not in features:
            features[head.features] = head.features.of(z_BD)
        labels = version.model.labels
        logits_BC = head.head_logits(features[head.features], len(labels))
        ranked = version.tensors.rank(logits_BC, labels, version.labelled, top_scores)
        rankings[version.number] = Ranking(version, logits_BC, ranked)
    return rankings
