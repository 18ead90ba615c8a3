"""Versions that predict classes by single features, and rings of events with such a version as the reference."""

from collections.abc import Sequence

import torch

from learner.encoder.served import export_head
from learner.fast.fast_head import Rows
from learner.quality.evaluation import ScoredVersion
from learner.quality.recent_events import RecentEvents, Reference
from tests.learner.small_learner import CONFIG, small_served

SERVED = small_served()
NUM_FEATURES = CONFIG.head_features


def version(*, threshold: float = 0.0, **feature_of: int) -> ScoredVersion:
    """Returns a version that predicts the class of the largest feature; with a threshold, each class of a feature 1."""
    weights_CR = torch.zeros(len(feature_of), NUM_FEATURES)
    for row, place in enumerate(feature_of.values()):
        weights_CR[row, place] = 1.0
    head = SERVED.head(export_head(CONFIG, weights_CR, temperature=1.0, threshold=threshold))
    return ScoredVersion(SERVED, head, tuple(feature_of), weights_CR, {})


def events_with(features: Sequence[Sequence[int]], labels: list[str]) -> Rows:
    """Returns events whose features at these places are 1, and 0 elsewhere."""
    phi_BR = torch.zeros(len(features), NUM_FEATURES)
    for row, places in enumerate(features):
        phi_BR[row, list(places)] = 1.0
    return Rows(phi_BR, labels, [""] * len(labels), are_all=True)


def ring_with(reference: ScoredVersion) -> RecentEvents:
    """Returns an empty ring that compares versions with `reference`, version 7."""
    ring = RecentEvents(NUM_FEATURES)
    ring.refer_to(Reference(7, reference))
    return ring
