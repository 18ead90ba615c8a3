"""The comparison of two versions by counts, and the anchor of later comparisons."""

import msgspec
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from learner.quality.comparison import NUM_COHORTS, Anchor, Comparison, Paired, compare, make_anchor
from lifelong.plugins.kinds.class_tensors import ClassTargets
from model.kinds import best_rows
from tests.learner.small_learner import labelled
from tests.learner.streams import TOPICS

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-1, 6)), min_size=1, max_size=60)


@given(OUTCOMES)
def test_every_known_sample_is_in_one_class_and_in_one_cohort(samples: list[tuple[bool, bool, int]]) -> None:
    before, after, rows = (torch.tensor(column) for column in zip(*samples, strict=True))
    comparison = compare(before, after, rows, 7)
    known = rows >= 0
    whole = compare(before[known], after[known], rows[known], 7).overall
    for groups in (comparison.classes, comparison.cohorts):
        assert Paired(*(sum(counts) for counts in zip(*groups, strict=True))) == whole
    overall = comparison.overall
    assert (len(comparison.classes), len(comparison.cohorts), overall.num) == (7, NUM_COHORTS, len(samples))
    assert overall.accuracy_before == before.float().mean()
    assert overall.accuracy == after.float().mean()
    assert abs(overall.drop - (overall.accuracy_before - overall.accuracy)) < 1e-9


def test_the_first_cohort_holds_the_oldest_classes() -> None:
    rows = torch.arange(10)
    # Only the two oldest classes were right.
    before = rows < 2
    comparison = compare(before, torch.zeros(10, dtype=torch.bool), rows, 10)
    assert comparison.cohorts == (Paired(2, 2, 2, 0), *[Paired(2, 0, 0, 0)] * 4)


def test_nothing_compares_as_nothing() -> None:
    nothing = torch.zeros(0, dtype=torch.bool)
    comparison = compare(nothing, nothing, nothing.long(), 0)
    assert comparison.overall == Paired()
    assert comparison.classes == ()
    assert set(comparison.cohorts) == {Paired()}
    assert (comparison.overall.accuracy, comparison.overall.drop) == (0.0, 0.0)


SAMPLES = labelled(0, 20)
ROWS = torch.tensor([TOPICS.index(sample.label) for sample in SAMPLES])


def logits(rows: Tensor, num_classes: int = len(TOPICS)) -> Tensor:
    """Logits that predict these rows."""
    return torch.nn.functional.one_hot(rows, num_classes).float()


def anchor(num_right: int, num_classes: int = len(TOPICS)) -> Anchor:
    """An anchor that predicted the first `num_right` of SAMPLES rightly."""
    rows = torch.where(num_classes > ROWS, ROWS, -1)
    return make_anchor(SAMPLES, torch.arange(20) < num_right, rows, num_classes)


def test_a_sample_that_was_right_and_is_wrong_is_lost() -> None:
    predicted_rows = torch.where(torch.arange(20) < 4, (ROWS + 1) % 5, ROWS)
    assert anchor(10).compare_with(SAMPLES, logits(predicted_rows), ClassTargets(ROWS)).overall == Paired(
        num=20, right=10, lost=4, won=10
    )


def test_the_candidate_chooses_among_the_classes_that_the_anchor_had() -> None:
    # A newer class wins everywhere.
    both = logits(ROWS) + 2 * logits(torch.full_like(ROWS, 3))
    beside = anchor(20, num_classes=3).compare_with(SAMPLES, both, ClassTargets(ROWS))
    assert beside.overall == Paired(num=12, right=12, lost=0, won=0)
    assert anchor(20).compare_with(SAMPLES, both, ClassTargets(ROWS)).overall.lost == 16


def test_samples_that_came_later_do_not_count() -> None:
    more = [*SAMPLES, *labelled(20, 30)]
    rows = torch.tensor([TOPICS.index(sample.label) for sample in more])
    assert anchor(20).compare_with(more, logits(rows), ClassTargets(rows)).overall == Paired(
        num=20, right=20, lost=0, won=0
    )


def test_an_anchor_gives_way_to_one_as_good_and_to_one_that_covers_twice_as_much() -> None:
    worse = Comparison(overall=Paired(num=20, right=15, lost=2, won=1))
    as_good = Comparison(overall=Paired(num=20, right=15, lost=1, won=1))
    assert not anchor(15).is_superseded(worse, 40)
    assert anchor(15).is_superseded(as_good, 40)
    assert anchor(15).is_superseded(worse, 41)


def test_an_anchor_survives_a_checkpoint() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(anchor(7)), type=Anchor) == anchor(7)


def test_without_classes_nothing_is_predicted() -> None:
    assert best_rows(torch.zeros(3, 0)).tolist() == [-2, -2, -2]


def test_two_anchors_are_compared_on_their_shared_samples() -> None:
    older = Anchor(right=[1, 2, 2, 3, 6], wrong=[4, 5])
    newer = Anchor(right=[2, 2, 4, 7], wrong=[1, 3, 5, 8])
    assert older.compare_shared(newer) == Paired(num=5, right=3, lost=2, won=1)
    assert newer.compare_shared(older) == Paired(num=5, right=2, lost=1, won=2)
    assert Anchor().compare_shared(newer) == Paired()
