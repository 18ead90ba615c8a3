"""The decision between arms with different encoders: as a table, by its properties, and by its error rates."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rollout.config import RolloutConfig
from rollout.unpaired_rule import ArmEvidence, ArmTally, decide, log_e

CONFIG = RolloutConfig()
ENOUGH = -math.log(CONFIG.error)
CANDIDATE_SHARE = 0.2

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@pytest.mark.parametrize(
    ("stable", "candidate", "expected"),
    [
        pytest.param((0, 0), (0, 0), "hold", id="nothing is known"),
        pytest.param((500, 0), (19, 19), "hold", id="a label is missing"),
        pytest.param((19, 0), (500, 500), "hold", id="a label is missing on the stable arm"),
        pytest.param((80, 8), (20, 14), "promote", id="clearly better"),
        pytest.param((80, 48), (20, 16), "hold", id="better, and it may be chance"),
        pytest.param((80, 80), (20, 0), "withdraw", id="nothing right"),
        pytest.param((200, 180), (50, 45), "hold", id="equal, few labels"),
        pytest.param((8_000, 7_200), (2_000, 1_800), "promote", id="equal, many labels"),
        pytest.param((8_000, 7_200), (2_000, 1_750), "hold", id="worse by half of the margin"),
        pytest.param((8_000, 7_200), (2_000, 1_700), "withdraw", id="worse by the margin, many labels"),
        pytest.param((200, 180), (50, 30), "withdraw", id="much worse"),
        pytest.param((200, 180), (50, 44), "hold", id="worse, and it may be chance"),
        pytest.param((8_000, 0), (2_000, 0), "promote", id="both know nothing"),
        pytest.param((8_000, 8_000), (2_000, 2_000), "promote", id="both are always right"),
    ],
)
def test_decides(stable: tuple[int, int], candidate: tuple[int, int], expected: str) -> None:
    ruling = decide(ArmEvidence(ArmTally(*stable), ArmTally(*candidate)), CONFIG)
    assert ruling.action == expected, ruling.reason


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.floats(0, 1), st.floats(0, 1))
def test_more_right_answers_never_hurt_a_candidate(stable: int, candidate: int, right: float, more: float) -> None:
    base = ArmTally(stable, round(stable * right))
    low, high = sorted((round(candidate * right), round(candidate * more)))
    order = ["withdraw", "hold", "promote"]
    ranks = [
        order.index(decide(ArmEvidence(base, ArmTally(candidate, correct)), CONFIG).action) for correct in (low, high)
    ]
    assert ranks == sorted(ranks)


def test_the_reason_says_what_was_seen() -> None:
    ruling = decide(ArmEvidence(ArmTally(6_000, 5_400), ArmTally(1_500, 1_350)), CONFIG)
    assert (ruling.action, ruling.reason) == ("promote", "candidate 1350/1500 (90.0%), stable 5400/6000 (90.0%)")
    assert ruling.numbers["not_worse"] >= ENOUGH


TALLIES = st.integers(1, 30).flatmap(lambda labels: st.builds(ArmTally, st.just(labels), st.integers(0, labels)))


@given(TALLIES, TALLIES, st.sampled_from([0.0, 0.01, 0.05, 0.3]))
def test_nothing_that_the_hypothesis_allows_explains_the_labels_better(
    one: ArmTally, other: ArmTally, margin: float
) -> None:
    """The highest likelihood is found: E is at most that of any allowed pair of accuracies."""
    ones, others = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    allowed = ones <= others - margin + 1e-12
    likelihood = share(one.correct, one.labels, ones) + share(other.correct, other.labels, others)
    mixture = np.logaddexp(
        jeffreys(one.correct, one.labels) + jeffreys(other.correct, other.labels),
        jeffreys(one.correct + other.correct, one.labels + other.labels),
    ) - math.log(2)
    if margin == 0.0:
        mixture = jeffreys(one.correct, one.labels) + jeffreys(other.correct, other.labels)
    log_evidence = log_e(one, other, margin=margin)
    assert log_evidence <= max(0.0, mixture - likelihood[allowed].max()) + 1e-6


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.sampled_from([0.0, 0.05]))
def test_the_mean_of_e_does_not_grow_under_the_hypothesis(path: list[tuple[bool, bool]], margin: float) -> None:
    """The test is valid at any time because E's numerator over the likelihood is a martingale for each allowed
    accuracy."""
    tallies = {True: ArmTally(), False: ArmTally()}
    for is_one, is_right in path:
        before = tallies[is_one]
        tallies[is_one] = ArmTally(before.labels + 1, before.correct + is_right)
    arm = path[0][0]
    accuracies = {True: 0.4, False: 0.4 + margin}
    now = numerator(tallies[True], tallies[False], margin) - sum(
        share(tally.correct, tally.labels, np.array(accuracies[which])) for which, tally in tallies.items()
    )
    mean = 0.0
    for is_right in (True, False):
        after = dict(tallies)
        after[arm] = ArmTally(tallies[arm].labels + 1, tallies[arm].correct + is_right)
        log_ratio = numerator(after[True], after[False], margin) - sum(
            share(tally.correct, tally.labels, np.array(accuracies[which])) for which, tally in after.items()
        )
        chance = accuracies[arm] if is_right else 1 - accuracies[arm]
        mean += chance * math.exp(float(log_ratio - now))
    assert mean == pytest.approx(1.0)


def numerator(one: ArmTally, other: ArmTally, margin: float) -> float:
    apart = jeffreys(one.correct, one.labels) + jeffreys(other.correct, other.labels)
    if not margin:
        return float(apart)
    same = jeffreys(one.correct + other.correct, one.labels + other.labels)
    return float(np.logaddexp(apart, same) - math.log(2))


MOST = 100_000
_FACTORIALS: Floats = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, MOST)))])
_HALVES: Floats = np.concatenate([[0.0], np.cumsum(np.log(np.arange(MOST - 1) + 0.5))])


def jeffreys(correct: "int | Ints", labels: "int | Ints") -> Floats:
    """Returns the log-likelihood mixed over accuracies from Beta(1/2, 1/2), by tables."""
    return np.asarray(_HALVES[correct] + _HALVES[labels - correct] - _FACTORIALS[labels])


def share(correct: "int | Ints", labels: "int | Ints", accuracy: Floats) -> Floats:
    """Returns the log-likelihood at `accuracy`."""
    right = correct * np.log(np.maximum(accuracy, 1e-300))
    return np.asarray(right + (labels - correct) * np.log(np.maximum(1.0 - accuracy, 1e-300)))


def log_es(one: tuple[Ints, Ints], other: tuple[Ints, Ints], margin: float) -> Floats:
    """Computes `log_e` for arrays of (labels, correct)."""
    (n, x) = one
    (m, y) = other
    mixture = jeffreys(x, n) + jeffreys(y, m)
    boundary = (x + y) / (n + m)
    if margin:
        mixture = np.logaddexp(mixture, jeffreys(x + y, n + m)) - math.log(2)
        boundary = boundaries(x / n, y / m, m / n, margin)
    likelihood = share(x, n, boundary) + share(y, m, boundary + margin)
    return np.where(x / n <= y / m - margin, 0.0, mixture - likelihood)


def boundaries(p: Floats, q: Floats, ratio: Floats, margin: float) -> Floats:
    a = 1 + ratio
    b = -(1 + ratio + p + ratio * q - margin * (ratio + 2))
    c = margin**2 - margin * (2 * p + ratio + 1) + p + ratio * q
    v = (b / (3 * a)) ** 3 - b * c / (6 * a**2) + p * margin * (1 - margin) / (2 * a)
    u = np.copysign(np.sqrt(np.maximum(0.0, (b / (3 * a)) ** 2 - c / (3 * a))), v)
    cosine = np.clip(np.divide(v, u**3, out=np.zeros_like(v), where=u != 0), -1.0, 1.0)
    return np.asarray(np.clip(2 * u * np.cos((np.pi + np.arccos(cosine)) / 3) - b / (3 * a), 0.0, 1.0 - margin))


@given(TALLIES, TALLIES, st.sampled_from([0.0, 0.01, 0.05, 0.3]))
def test_the_simulation_computes_what_the_rule_computes(one: ArmTally, other: ArmTally, margin: float) -> None:
    arrays = [(np.array([tally.labels]), np.array([tally.correct])) for tally in (one, other)]
    assert log_es(arrays[0], arrays[1], margin)[0] == pytest.approx(log_e(one, other, margin=margin), abs=1e-6)


@dataclass(frozen=True)
class Runs:
    """The ends of the runs: shares in [0, 1], and the median of the candidate arm's labels (inf for a run that
    held)."""

    promoted: float
    withdrawn: float
    median: float


def simulate(stable: float, candidate: float, *, runs: int, labels: int, step: int = 500) -> Runs:
    """Simulates runs that ask the rule after every label; a run that has not ended after `labels` holds."""
    rng = np.random.default_rng(1)
    counts = np.zeros((runs, 4), dtype=np.int64)  # labels and right ones of the candidate, then of the stable arm
    ends = np.zeros(runs, dtype=np.int64)
    num_labels = np.full(runs, np.inf)
    going = np.arange(runs)
    for _ in range(labels // step):
        is_candidate = rng.random((len(going), step)) < CANDIDATE_SHARE
        is_right = rng.random((len(going), step)) < np.where(is_candidate, candidate, stable)
        events = (is_candidate, is_candidate & is_right, ~is_candidate, ~is_candidate & is_right)
        n, x, m, y = (counts[going, column, None] + event.cumsum(1) for column, event in enumerate(events))
        is_enough = np.minimum(n, m) >= CONFIG.min_labels
        candidates = (np.maximum(n, 1), x)
        stables = (np.maximum(m, 1), y)
        promoted = is_enough & (log_es(candidates, stables, CONFIG.margin) >= ENOUGH)
        withdrawn = is_enough & ~promoted & (log_es(stables, candidates, 0.0) >= ENOUGH)
        first = (promoted | withdrawn).argmax(1)
        rows = np.flatnonzero((promoted | withdrawn).any(1))
        ends[going[rows]] = np.where(promoted[rows, first[rows]], 1, 2)
        num_labels[going[rows]] = n[rows, first[rows]]
        counts[going] = np.stack([n[:, -1], x[:, -1], m[:, -1], y[:, -1]], axis=1)
        going = np.flatnonzero(ends == 0)
        if not len(going):
            break
    return Runs(float((ends == 1).mean()), float((ends == 2).mean()), float(np.median(num_labels)))


@pytest.mark.parametrize(
    ("stable", "candidate", "labels", "is_as_wanted"),
    [
        pytest.param(0.9, 0.9, 20_000, lambda runs: runs.withdrawn <= 0.01 and runs.promoted >= 0.98, id="equal"),
        pytest.param(
            0.9, 0.85, 20_000, lambda runs: runs.promoted <= 0.01 and runs.withdrawn >= 0.95, id="5 points worse"
        ),
        pytest.param(
            0.9, 0.8, 10_000, lambda runs: runs.promoted <= 0.001 and runs.median <= 400, id="10 points worse"
        ),
        pytest.param(0.9, 0.7, 4_000, lambda runs: runs.promoted == 0 and runs.median <= 80, id="20 points worse"),
        pytest.param(0.6, 0.9, 4_000, lambda runs: runs.promoted == 1 and runs.median <= 50, id="30 points better"),
        pytest.param(
            0.1, 0.4, 4_000, lambda runs: runs.promoted == 1 and runs.median <= 50, id="30 points better, hard"
        ),
        pytest.param(
            0.8, 0.9, 10_000, lambda runs: runs.promoted >= 0.999 and runs.median <= 250, id="10 points better"
        ),
    ],
)
def test_errors_when_it_is_asked_after_every_label(
    stable: float, candidate: float, labels: int, is_as_wanted: Callable[[Runs], bool]
) -> None:
    """B10: of 1,000 runs, five points worse were promoted in 57 %, ten points worse in 19 %."""
    runs = simulate(stable, candidate, runs=1_000, labels=labels)
    assert is_as_wanted(runs), runs
