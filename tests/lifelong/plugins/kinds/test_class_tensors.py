"""The kind `class`: the row with the highest logit is the prediction, and changes between versions are counted."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.kinds.class_tensors import TENSORS
from model.kinds import best_rows, is_new, rows_in

CLASSES = ("a", "b", "c")


def test_a_prediction_is_right_if_the_logit_of_its_class_is_the_highest() -> None:
    targets = TENSORS.targets(["b", "a", "unknown"], ["", "", ""], CLASSES)
    assert targets.rows_N.tolist() == [1, 0, -1]
    assert targets.right(torch.tensor([[0.1, 0.9, 0.2], [0.1, 0.9, 0.2], [1.0, 0.0, 0.0]])).tolist() == [
        True,
        False,
        False,
    ]
    assert targets.calibrates_N.tolist() == [True, True, False]
    assert not targets.right(torch.zeros(3, 0)).any()


def test_predicted_classes_are_counted_once() -> None:
    logits_NC = torch.tensor([[1.0, -1.0, 2.0], [1.0, -1.0, -2.0]])
    assert TENSORS.targets(["a", "c"], ["", ""], CLASSES).num_named(logits_NC) == 2


@given(st.integers(0, 1_000), st.sampled_from([("a", "b"), ("c", "a"), (), ("x", "b")]))
def test_a_change_is_another_prediction_among_the_classes_that_both_know(seed: int, before: tuple[str, ...]) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits_NC = torch.randn(20, 3, generator=rng)
    before_NK = torch.randn(20, len(before), generator=rng)
    labels = ["abcx"[row] for row in torch.randint(4, (20,), generator=rng).tolist()]
    targets = TENSORS.targets(labels, labels, CLASSES)
    found = targets.changes(logits_NC, before_NK, CLASSES, before, frozenset("x"))
    named = [CLASSES[row] for row in best_rows(logits_NC).tolist()]
    of_before = [before[row] if row >= 0 else "" for row in best_rows(before_NK).tolist()]
    pairs = list(zip(named, of_before, strict=True))
    assert found.to_new == sum(name not in before for name in named)
    assert found.between_old == sum(name != old and name in before and old != "x" for name, old in pairs)
    assert found.named_C.tolist() == [named.count(name) for name in CLASSES]
    assert found.labelled_C.tolist() == [labels.count(name) for name in CLASSES]


def test_a_name_with_two_rows_stands_for_its_first_row() -> None:
    assert rows_in(("a", "b", "a"), ("a", "b", "c")).tolist() == [0, 1, -1, -1]
    assert is_new(("a", "b"), ("b",)).tolist() == [True, False]
