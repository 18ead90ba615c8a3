"""Bounds what one source of labels may say about two versions: at most k of its labels count, and its mean once.

A source that sends a thousand labels adds no more to the counts than one that sends k. Where sources are many, their
means are tested instead of their labels, by `rollout.statistics.betting` with X = 1 + the source's mean difference:
whatever a single source says, it multiplies the e-value by a number between 0.1 and 2.

The k labels are those whose events have the smallest hashes (bottom-k sampling, Cohen and Kaplan 2007), of all that a
window of events has. So a source cannot choose which of its labels count by being quick, and the order of the labels
changes nothing. A source's mean is final when its window has ended; the e-value may be looked at after each window.
"""

from collections.abc import Sequence

import numpy as np

from rollout.statistics.betting import log_e
from rollout.statistics.paired import PairedTally


class SourceSample:
    """The labels of one window of events that count. Verbs: add, tally, means."""

    def __init__(self, labels_per_source: int) -> None:
        self._labels_per_source = labels_per_source
        self._differences: dict[str, dict[int, int]] = {}  # by source, then by the hash of the event

    def add(self, source: str, event_hash: int, difference: int) -> None:
        """Adds a label's difference, or replaces that of the same event and source by a corrected one."""
        differences = self._differences.setdefault(source, {})
        differences[event_hash] = difference
        if len(differences) > self._labels_per_source:
            del differences[max(differences)]

    def tally(self) -> PairedTally:
        """Counts all labels that are in the sample."""
        tally = PairedTally()
        for differences in self._differences.values():
            tally += PairedTally.of(differences.values())
        return tally

    def means(self) -> list[float]:
        """Returns the mean difference of each source, in [-1, 1]."""
        return [sum(differences.values()) / len(differences) for differences in self._differences.values()]


def log_e_of_means(means: Sequence[float], mean: float) -> float:
    """Returns the logarithm of E against "the mean over sources is `mean` at most", for a `mean` in (-1, 1)."""
    return float(log_e(np.ones(len(means)), (1.0 + np.array(means)) / (1.0 + mean)))
