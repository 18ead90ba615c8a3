"""The error rates of the rule and the labels that it takes, when it is asked after every label: 10,000 seeded runs.

Asking `decide` after each of 10,000 times 8,000 labels would take hours. So the evidence is computed for all runs at
once, and `decide` is asked about some of the runs, those in which a verdict falls among them: it must say the same.
"""

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from rollout.paired_rule import MARGIN, THRESHOLD, PairedComparison, PairedEvidence, decide
from rollout.statistics import PairedTally, log_e, payoffs
from wire.records import NOT_WORSE, SUPERIOR

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

RUNS = 10_000
STEP = 20
CHECKED = 2
"""Runs of each step, of those in which the verdict changes, that `decide` is asked about."""


@dataclass(frozen=True)
class Runs:
    """The number of labels at which each run is withdrawn, found better (rule B), and not worse by the margin (C)."""

    worse: Floats
    better: Floats
    not_worse: Floats

    @property
    def wrong(self) -> float:
        """Share of the runs of an equal candidate with a wrong verdict: withdrawn, or promoted as better."""
        return float((np.isfinite(self.worse) | (self.better < np.minimum(self.worse, self.not_worse))).mean())

    @property
    def withdrawn(self) -> float:
        """Share of the runs that are ever withdrawn."""
        return float(np.isfinite(self.worse).mean())

    @property
    def promoted(self) -> float:
        """Share of the runs that are promoted before they are withdrawn."""
        return float((np.minimum(self.better, self.not_worse) < self.worse).mean())


@cache
def simulate(discordance: float, difference: float, *, labels: int) -> Runs:
    """Simulates versions that differ on the share `discordance` of the labels, where the candidate is right more often.

    A run ends where it is withdrawn. Only labels on which the versions differ are drawn, as ties change neither sign
    test and let the evidence of rule C grow: it is looked at before each difference.
    """
    rng = np.random.default_rng(1)
    runs = Runs(*np.full((3, RUNS), np.inf))
    state = np.zeros((RUNS, 3), dtype=np.int64)  # wins, losses, labels
    going = np.arange(RUNS)
    while len(going):
        is_win = rng.random((len(going), STEP)) < (1 + difference / discordance) / 2
        gaps = rng.geometric(discordance, (len(going), STEP))
        wins = state[going, 0, None] + is_win.cumsum(axis=1)
        losses = state[going, 1, None] + (~is_win).cumsum(axis=1)
        times = state[going, 2, None] + gaps.cumsum(axis=1)
        after = np.stack([wins, times - wins - losses, losses], axis=2)
        before = after - np.stack([is_win, np.zeros_like(is_win), ~is_win], axis=2)
        check_by_decide(after)
        note_first(runs.worse, going, times, labels, log_e(after[..., ::-1], payoffs(0.0)))
        note_first(runs.better, going, times, labels, log_e(after, payoffs(0.0)))
        note_first(runs.not_worse, going, times - 1, labels, log_e(before, payoffs(-MARGIN)))
        state[going] = np.stack([wins[:, -1], losses[:, -1], times[:, -1]], axis=1)
        going = going[(state[going, 2] < labels) & np.isinf(runs.worse[going])]
    return runs


def check_by_decide(counts: Ints) -> None:
    """Asks `decide` about some of the runs, counts [runs, steps, 3], whose reference is the stable version."""
    is_worse, is_better, is_not_worse = (
        log_e(counts[..., ::-1], payoffs(0.0)) >= THRESHOLD,
        log_e(counts, payoffs(0.0)) >= THRESHOLD,
        log_e(counts, payoffs(-MARGIN)) >= THRESHOLD,
    )
    expected = np.select([is_worse, is_better, is_not_worse], ["withdraw", SUPERIOR, NOT_WORSE], "hold")
    is_decided = (expected[:, 1:] != expected[:, :-1]).any(axis=1)
    for run in [0, *np.flatnonzero(is_decided)[:CHECKED]]:
        for tally, verdict in zip(counts[run].tolist(), expected[run], strict=True):
            labels = PairedTally(*tally)
            compared = PairedComparison(labels, settled=labels)
            ruling = decide(PairedEvidence(stable=compared, reference=compared, is_ramp_over=True))
            assert (ruling.rule or ruling.action) == verdict, (tally, ruling)


def note_first(found: Floats, going: Ints, times: Ints, labels: int, evidence: Floats) -> None:
    """Writes into `found` the first time at which the evidence of a run reaches the threshold."""
    reached = np.where((evidence >= THRESHOLD) & (times <= labels), times, np.inf).min(axis=1)
    found[going] = np.minimum(found[going], reached)


@pytest.mark.parametrize("discordance", [0.02, 0.1, 0.2])
def test_an_equal_candidate_is_called_wrong_in_at_most_1_percent(discordance: float) -> None:
    runs = simulate(discordance, 0.0, labels=8_000)
    assert runs.withdrawn <= 0.01
    assert np.isfinite(runs.better).mean() <= 0.01
    assert runs.wrong <= 0.01, "all rules together"


@pytest.mark.parametrize(
    ("discordance", "median", "p95"),
    [(0.05, 220, 350), (0.1, 450, 950), (0.2, 800, 2_200), (0.3, 1_350, 3_600)],
)
def test_a_candidate_that_is_5_points_worse_is_withdrawn(discordance: float, median: int, p95: int) -> None:
    runs = simulate(discordance, -0.05, labels=8_000)
    assert runs.promoted <= 0.001
    assert np.median(runs.worse) <= median
    assert np.quantile(runs.worse, 0.95) <= p95


@pytest.mark.parametrize(("discordance", "median"), [(0.1, 120), (0.2, 220), (0.3, 330)])
def test_a_candidate_that_is_10_points_worse_is_withdrawn(discordance: float, median: int) -> None:
    runs = simulate(discordance, -0.1, labels=8_000)
    assert runs.promoted <= 0.0001
    assert np.median(runs.worse) <= median


@pytest.mark.parametrize(("discordance", "median"), [(0.01, 650), (0.05, 1_300), (0.1, 2_500)])
def test_an_equal_candidate_is_promoted_by_rule_c(discordance: float, median: int) -> None:
    runs = simulate(discordance, 0.0, labels=8_000)
    assert np.median(runs.not_worse) <= median


@pytest.mark.parametrize(("discordance", "difference", "median"), [(0.72, 0.7, 16), (0.35, 0.3, 40), (0.2, 0.1, 210)])
def test_a_candidate_that_is_better_is_promoted_by_rule_b(discordance: float, difference: float, median: int) -> None:
    runs = simulate(discordance, difference, labels=2 * median)
    assert np.median(runs.better) <= median
    assert runs.withdrawn <= 0.001
