"""The error rates of the rules at publications, in seeded runs: of a chain of versions, and of new encoders.

In a chain, versions come every 40 labels, and each is asked when it is published. Each differs from the reference on a
share of the texts, and is right more often by a difference, which is negative for those that are worse. The manifest
counts the names of the last 2,000 texts, and the labels of the line. New encoders are asked by the holdout.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from rollout.paired_rule import MARGIN
from rollout.publication_rule import decide, objection
from wire.records import NOT_WORSE, SUPERIOR, NameChanges

LABELS_OF_EACH = 40
TEXTS = 2_000

RUNS = [
    pytest.param(60, id="few"),
    pytest.param(10_000, id="many", marks=(pytest.mark.slow, pytest.mark.timeout(1_800))),
]


def promoted(differences: Sequence[float], *, discordance: float, runs: int) -> np.ndarray[tuple[int, int], np.dtype]:
    """Returns which versions become stable when they are published, bool [runs, versions].

    `differences[k]` is the accuracy of version k less that of the reference. The labels between two publications are
    counted for the older version.
    """
    rng = np.random.default_rng(1)
    shares = np.maximum(discordance, np.abs(differences))
    is_promoted = np.zeros((runs, len(differences)), dtype=bool)
    for run in range(runs):
        line = np.zeros(3, dtype=np.int64)  # wins, ties, losses
        before = 0.0
        for number, (difference, share) in enumerate(zip(differences, shares, strict=True)):
            wrong = (share - difference) / 2
            changes = NameChanges(
                reference=1,
                texts=TEXTS,
                between_old=int(rng.binomial(TEXTS, share)),
                forgotten=int(rng.binomial(TEXTS, wrong)),
                lost=int(rng.binomial(TEXTS, max(0.0, before - difference))),
                wins=int(line[0]),
                ties=int(line[1]),
                losses=int(line[2]),
                labels=TEXTS,
            )
            is_promoted[run, number] = decide(changes).rule != ""
            line += rng.multinomial(LABELS_OF_EACH, (share - wrong, 1 - share, wrong))
            before = difference
    return is_promoted


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(("difference", "most"), [(-0.05, 0.01), (-0.1, 0.001)])
@pytest.mark.parametrize("discordance", [0.1, 0.2])
def test_of_a_line_that_is_worse_hardly_any_version_is_promoted(
    discordance: float, difference: float, most: float, runs: int
) -> None:
    is_promoted = promoted([difference] * 25, discordance=discordance, runs=runs)
    assert is_promoted.any(axis=1).mean() <= most


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("before", [0.0, 0.1])
def test_a_version_that_is_suddenly_worse_is_not_promoted_for_its_line(before: float, runs: int) -> None:
    """The line was as good as the reference, or much better: the version itself is five points worse than that."""
    is_promoted = promoted([before] * 12 + [before - 0.05], discordance=0.2, runs=runs)
    assert is_promoted[:, -1].mean() <= 0.01
    assert before == 0.0 or is_promoted[:, -2].mean() >= 0.99


@pytest.mark.parametrize("runs", RUNS)
def test_a_creep_of_versions_that_are_each_a_little_worse_is_stopped_by_the_reference(runs: int) -> None:
    differences = [-0.0025 * number for number in range(25)]
    is_promoted = promoted(differences, discordance=0.01, runs=runs)
    worst = np.array([min(0.0, *np.array(differences)[promoted_of]) for promoted_of in is_promoted])
    assert np.quantile(worst, 0.01) >= -0.03, "three points"


@pytest.mark.parametrize("runs", RUNS)
def test_versions_that_hardly_differ_are_all_promoted(runs: int) -> None:
    assert promoted([0.002] * 25, discordance=0.005, runs=runs).mean() >= 0.99


ENCODERS = 20
"""Encoders that are asked one after another on about the same holdout samples."""

HELD_RUNS = 10_000


def asked(difference: float, *, discordance: float, samples: int, encoders: int = 1) -> dict[str, float]:
    """Returns the share of runs in which any of the encoders is promoted, found better (B), or objected to.

    Each differs from the reference on the share `discordance` of the holdout samples, and is right more often by
    `difference`.
    """
    rng = np.random.default_rng(1)
    shares = ((discordance + difference) / 2, 1 - discordance, (discordance - difference) / 2)
    counts = rng.multinomial(samples, shares, size=(HELD_RUNS, encoders))
    verdicts = parse_verdicts("held", counts)
    found = {
        "promoted": (verdicts == SUPERIOR) | (verdicts == NOT_WORSE),
        "better": verdicts == SUPERIOR,
        "objected": verdicts == OBJECTED,
    }
    return {name: float(each.any(axis=1).mean()) for name, each in found.items()}


OBJECTED = "objected"

ALL_CHANGED = NameChanges(reference=1, texts=TEXTS, between_old=TEXTS, labels=TEXTS)


@cache
def judge_counts(kind: str, wins: int, ties: int, losses: int) -> str:
    """Returns what `decide` says of an encoder: the rule, OBJECTED or "". All names changed, so it is not rule A."""
    counted = {f"{kind}_wins": wins, f"{kind}_ties": ties, f"{kind}_losses": losses}
    ruling = decide(msgspec.structs.replace(ALL_CHANGED, **counted))
    return OBJECTED if objection(ruling.numbers) else ruling.rule


def parse_verdicts(kind: str, counts: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Returns the verdict on each triple of wins, ties and losses, on the holdout ("held") or of a trial ("trial")."""
    triples, places = np.unique(counts.reshape(-1, 3), axis=0, return_inverse=True)
    found = np.array([judge_counts(kind, *triple) for triple in triples.tolist()])
    return found[places].reshape(counts.shape[:-1])


@pytest.mark.parametrize("samples", [600, 1_000, 3_000])
@pytest.mark.parametrize("discordance", [0.05, 0.1, 0.2])
def test_of_twenty_encoders_hardly_one_is_promoted_that_is_worse_by_the_margin(
    discordance: float, samples: int
) -> None:
    most = {-MARGIN: 0.005, -0.05: 0.0001, -0.1: 0.0}
    for difference, rate in most.items():
        if -difference <= discordance:
            promoted = asked(difference, discordance=discordance, samples=samples, encoders=ENCODERS)["promoted"]
            assert promoted <= rate, difference


@pytest.mark.parametrize("samples", [600, 1_000, 3_000])
@pytest.mark.parametrize("discordance", [0.02, 0.05, 0.1])
def test_of_encoders_that_are_as_good_hardly_one_is_called_better_or_worse(discordance: float, samples: int) -> None:
    assert asked(0.0, discordance=discordance, samples=samples, encoders=ENCODERS)["better"] <= 0.005
    assert asked(0.0, discordance=discordance, samples=samples)["objected"] <= 0.01


@pytest.mark.parametrize(
    ("difference", "discordance", "samples", "least"),
    [
        pytest.param(0.0, 0.02, 1_000, 0.4, id="as good"),
        pytest.param(0.0, 0.02, 3_000, 0.99, id="as good, many samples"),
        pytest.param(0.018, 0.05, 600, 0.45, id="1.8 points better, the holdout of 15,000 labels"),
        pytest.param(0.018, 0.05, 1_000, 0.9, id="1.8 points better, a full holdout"),
        pytest.param(0.05, 0.1, 600, 0.95, id="5 points better"),
    ],
)
def test_an_encoder_that_is_as_good_or_better_is_promoted(
    difference: float, discordance: float, samples: int, least: float
) -> None:
    assert asked(difference, discordance=discordance, samples=samples)["promoted"] >= least


@pytest.mark.parametrize(("difference", "discordance"), [(-0.05, 0.1), (-0.1, 0.2)])
def test_an_encoder_that_is_much_worse_is_objected_to(difference: float, discordance: float) -> None:
    assert asked(difference, discordance=discordance, samples=600)["objected"] >= 0.9


TRIAL_LABELS = 1_000
LABELS_OF_UNIT = 64
"""A trial is asked after so many labels, and ends at the first verdict."""


def tried(difference: float, *, discordance: float, trials: int = 1) -> dict[str, float]:
    """Returns the share of runs in which any trial promotes its encoder, and in which the first one is objected to.

    Each encoder differs from the one in use on the share `discordance` of the labels.
    """
    rng = np.random.default_rng(1)
    shares = ((discordance + difference) / 2, 1 - discordance, (discordance - difference) / 2)
    units = TRIAL_LABELS // LABELS_OF_UNIT + 1
    counts = rng.multinomial(LABELS_OF_UNIT, shares, size=(HELD_RUNS, trials, units)).cumsum(axis=2)
    verdicts = parse_verdicts("trial", counts)
    is_worse = verdicts == OBJECTED
    is_promoted = (verdicts == SUPERIOR) | (verdicts == NOT_WORSE)
    comes_first = is_promoted.argmax(axis=2) < np.where(is_worse.any(axis=2), is_worse.argmax(axis=2), units)
    promoted = is_promoted.any(axis=2) & comes_first
    return {"promoted": float(promoted.any(axis=1).mean()), "objected": float(is_worse[:, 0].any(axis=1).mean())}


@pytest.mark.parametrize("discordance", [0.05, 0.1, 0.2])
def test_an_encoder_that_is_worse_by_the_margin_hardly_ever_passes_its_trial(discordance: float) -> None:
    for difference, most in {-MARGIN: 0.01, -0.05: 0.001, -0.1: 0.0}.items():
        if -difference <= discordance:
            assert tried(difference, discordance=discordance)["promoted"] <= most, difference


@pytest.mark.parametrize(
    ("difference", "discordance", "least"),
    [
        pytest.param(0.0, 0.005, 0.75, id="as good"),
        pytest.param(0.018, 0.05, 0.6, id="1.8 points better"),
        pytest.param(0.05, 0.1, 0.99, id="5 points better"),
    ],
)
def test_an_encoder_that_is_as_good_or_better_passes_its_trial(
    difference: float, discordance: float, least: float
) -> None:
    assert tried(difference, discordance=discordance)["promoted"] >= least


@pytest.mark.parametrize(("difference", "discordance"), [(-0.05, 0.1), (-0.1, 0.2)])
def test_an_encoder_that_is_much_worse_loses_its_trial(difference: float, discordance: float) -> None:
    assert tried(difference, discordance=discordance)["objected"] >= 0.99
