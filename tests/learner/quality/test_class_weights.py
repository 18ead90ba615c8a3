"""Class weights predict the class of the highest worth; average precision does not depend on the holdout's shares."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.memory import build_targets
from learner.quality.class_weights import (
    MAX_RANKED,
    MIN_SAMPLES,
    NO_WEIGHTS,
    Weighted,
    average_precision,
    class_bias,
    rank_classes,
)
from learner.quality.comparison import ScoredHoldout
from learner.samples import Labelled

CLASSES = ("ok", "fraud")


def holdout(num_ok: int, num_fraud: int, *, noise: float, seed: int = 0) -> ScoredHoldout:
    """Returns samples whose log-odds of fraud are 1 apart, in units of the noise."""
    labels = ["ok"] * num_ok + ["fraud"] * num_fraud
    samples = [Labelled(str(number), label) for number, label in enumerate(labels)]
    rng = torch.Generator().manual_seed(seed)
    odds_N = torch.tensor([float(label == "fraud") for label in labels])
    odds_N += noise * torch.randn(len(labels), generator=rng)
    return ScoredHoldout(
        samples, CLASSES, torch.stack((-odds_N / 2, odds_N / 2), dim=1), build_targets(samples, CLASSES)
    )


SCORED = st.tuples(st.integers(0, 1_000), st.booleans(), st.integers(1, 4))


@given(st.lists(SCORED, min_size=1, unique_by=lambda row: row[0]))
def test_average_precision_is_the_mean_of_the_precision_at_each_sample_of_the_class(
    rows: list[tuple[int, bool, int]],
) -> None:
    """A sample that counts n times equals n copies of it, in any order."""
    best_first = sorted(rows, reverse=True)
    num_right = num = 0
    precisions: list[float] = []
    for _, is_right, times in best_first:
        num += times
        num_right += times * is_right
        precisions += [num_right / num] * (times * is_right)
    scores_N = torch.tensor([float(score) for score, _, _ in rows])
    found = average_precision(
        scores_N, torch.tensor([right for _, right, _ in rows]), torch.tensor([times for _, _, times in rows])
    )
    assert found == pytest.approx(sum(precisions) / len(precisions) if precisions else 0.0)


@given(st.floats(0.01, 100), st.floats(-5, 5), st.floats(-5, 5))
def test_the_class_with_the_highest_weight_times_probability_is_predicted(
    weight: float, ok: float, fraud: float
) -> None:
    bias_C = class_bias({"fraud": weight}, CLASSES)
    assert bias_C is not None
    logits_C = torch.tensor([ok, fraud])
    worth_C = torch.softmax(logits_C, dim=0) * torch.tensor([1.0, weight])
    if abs(float(worth_C[0] / worth_C[1]) - 1) > 1e-4:
        assert (logits_C + bias_C).argmax() == worth_C.argmax()


def test_without_weights_there_is_no_bias_and_nothing_is_ranked() -> None:
    assert class_bias({}, CLASSES) is None
    assert rank_classes(NO_WEIGHTS, holdout(50, 50, noise=0.5), None) == {}


def test_a_balanced_holdout_has_the_average_precision_of_the_labels() -> None:
    """Two in a hundred labels are fraud; in the holdout, half of the samples are."""
    weighted = Weighted({"fraud": 100.0}, {"ok": 980, "fraud": 20})
    balanced = holdout(20_000, 20_000, noise=0.35)
    whole = as_it_is(holdout(49_000, 1_000, noise=0.35, seed=1))
    assert rank_classes(weighted, balanced, None)["fraud"].value == pytest.approx(whole, abs=0.05)
    # On the balanced samples alone, the task looks easy.
    assert whole < 0.85 and as_it_is(balanced) > 0.97


def as_it_is(scored: ScoredHoldout) -> float:
    return average_precision(scored.logits_NC[:, 1], scored.targets.rows_N == 1, torch.ones(len(scored.samples)))


def test_a_version_that_ranks_worse_is_told_from_one_that_is_unlucky() -> None:
    weighted = Weighted({"fraud": 100.0}, {"ok": 980, "fraud": 20})
    parent = holdout(300, 300, noise=0.3)
    worse = rank_classes(weighted, holdout(300, 300, noise=1.0, seed=1), parent)["fraud"]
    alike = rank_classes(weighted, holdout(300, 300, noise=0.3, seed=1), parent)["fraud"]
    assert worse.is_worse(0.02, 3.1) and not alike.is_worse(0.02, 3.1)
    assert worse.error > 0 and math.isclose(worse.parent, alike.parent)


def test_the_weight_of_a_class_does_not_change_how_it_is_ranked() -> None:
    plain = holdout(100, 100, noise=0.5)
    bias_C = class_bias({"fraud": 50.0}, CLASSES)
    assert bias_C is not None
    moved = plain._replace(logits_NC=plain.logits_NC + bias_C)
    weighted = Weighted({"fraud": 50.0}, {"ok": 90, "fraud": 10})
    assert rank_classes(weighted, moved, plain)["fraud"].value == pytest.approx(
        rank_classes(weighted, plain, None)["fraud"].value
    )


def test_classes_of_few_samples_and_those_of_lower_weights_are_left_out() -> None:
    weighted = Weighted({"fraud": 5.0}, {"ok": 10, "fraud": 10})
    assert rank_classes(weighted, holdout(50, MIN_SAMPLES - 1, noise=0.5), None) == {}
    assert rank_classes(Weighted({"unknown": 5.0}, {}), holdout(50, 50, noise=0.5), None) == {}
    heavier = {f"class {number}": 9.0 for number in range(MAX_RANKED)}
    assert rank_classes(Weighted(heavier | {"fraud": 5.0}, {"fraud": 10}), holdout(50, 50, noise=0.5), None) == {}


def test_a_class_that_the_parent_does_not_know_has_no_parent() -> None:
    scored = holdout(50, 50, noise=0.5)
    parent = scored._replace(classes=("ok", "other"))
    found = rank_classes(Weighted({"fraud": 5.0}, {"ok": 10, "fraud": 10}), scored, parent)["fraud"]
    assert (found.parent, found.error) == (found.value, 0.0)
