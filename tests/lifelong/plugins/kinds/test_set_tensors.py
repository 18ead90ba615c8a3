"""The kind `multilabel`: classes with a logit above 0 are predicted, and the draw decides if a set counts as right."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.kinds.set_tensors import TENSORS
from lifelong.plugins.kinds.sets import join_names, unpack_names
from wire.kinds import group_name, is_right

CLASSES = ("a", "b", "c")
SETS = st.lists(st.frozensets(st.sampled_from("abcx")), min_size=1, max_size=20)


@given(SETS)
def test_a_predicted_set_is_judged_like_an_answer(sets: list[frozenset[str]]) -> None:
    """The learner judges its versions as it judges answers, also for sets with a class that has no row."""
    labels = [join_names(names) for names in sets]
    draws = [f"text {number}" for number in range(len(sets))]
    logits_NC = torch.randn(len(sets), 3, generator=torch.Generator().manual_seed(len(sets)))
    right = TENSORS.targets(labels, draws, CLASSES).right(logits_NC).tolist()
    for place, (label, draw) in enumerate(zip(labels, draws, strict=True)):
        named = join_names(name for name, logit in zip(CLASSES, logits_NC[place].tolist(), strict=True) if logit > 0)
        assert right[place] == is_right(named, label, draw.encode())


def test_a_set_is_always_grouped_by_the_same_one_of_its_names() -> None:
    groups = {group_name(join_names("abc"), f"text {number}") for number in range(100)}
    assert groups == set("abc")
    assert all(group_name(join_names("abc"), "text 1") == group_name(join_names("cba"), "text 1") for _ in range(3))
    assert unpack_names(join_names([])) == () and group_name(join_names([]), "text 1") == ""


def test_targets_can_be_limited_to_some_samples_and_to_the_first_classes() -> None:
    targets = TENSORS.targets([join_names("ac"), join_names("b"), join_names("")], ["1", "2", "3"], CLASSES)
    some = targets.only(torch.tensor([True, False, True]))
    assert some.sizes_N.tolist() == [2, 0]
    first = targets.among(2)
    assert first.has_NC.tolist() == [[True, False], [False, True], [False, False]]
    assert first.sizes_N.tolist() == [1, 1, 0]


def test_predicted_classes_are_counted_once() -> None:
    logits_NC = torch.tensor([[1.0, -1.0, 2.0], [1.0, -1.0, -2.0]])
    assert TENSORS.targets([join_names("a"), join_names("")], ["", ""], CLASSES).num_named(logits_NC) == 2


def test_the_agreement_of_equal_sets_is_one() -> None:
    full_NC = torch.tensor([[0.9, 0.1], [0.2, 0.1]])
    assert TENSORS.agreement(full_NC, full_NC - 0.5, 0.5) == 1.0
    assert TENSORS.agreement(full_NC, 0.5 - full_NC, 0.5) == pytest.approx(0.0)


@given(SETS)
def test_micro_f1_counts_the_names_of_all_samples_together(sets: list[frozenset[str]]) -> None:
    """A class without a row counts as missed, and the F1 of no names at all is 1."""
    targets = TENSORS.targets([join_names(names) for names in sets], [""] * len(sets), CLASSES)
    named_NC = torch.randn(len(sets), 3, generator=torch.Generator().manual_seed(len(sets))) > 0
    num = num_right = 0
    for row, names in zip(named_NC.tolist(), sets, strict=True):
        named = {name for name, is_named in zip(CLASSES, row, strict=True) if is_named}
        num += len(named) + len(names)
        num_right += len(named & names)
    assert targets.micro_f1(named_NC) == pytest.approx(2 * num_right / num if num else 1.0)
    assert targets.micro_f1(targets.has_NC) == pytest.approx(1.0) or any("x" in names for names in sets)
