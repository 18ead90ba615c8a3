"""Which logits are right: of one class the highest, of a set all above 0, as far as the draw of the sample asks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.targets import Targets, group_name, mean_f1, num_named
from wire.agreement import draw_of, is_right
from wire.targets import VALUE_ROW, names_of, set_of, unit_value, value_of

CLASSES = ("a", "b", "c")
SETS = st.lists(st.frozensets(st.sampled_from("abcx")), min_size=1, max_size=20)


@given(SETS)
def test_a_set_is_right_as_an_answer_that_names_it_would_be(sets: list[frozenset[str]]) -> None:
    """The learner judges its versions as it judges answers, also of sets with a class that has no row."""
    labels = [set_of(names) for names in sets]
    draws = [f"text {number}" for number in range(len(sets))]
    logits_NC = torch.randn(len(sets), 3, generator=torch.Generator().manual_seed(len(sets)))
    right = Targets.of(labels, draws, CLASSES).right(logits_NC).tolist()
    for place, (label, draw) in enumerate(zip(labels, draws, strict=True)):
        named = set_of(name for name, logit in zip(CLASSES, logits_NC[place].tolist(), strict=True) if logit > 0)
        assert right[place] == is_right(named, label, draw.encode())


def test_one_class_is_right_where_its_logit_is_the_highest() -> None:
    targets = Targets.of(["b", "a", "unknown"], ["", "", ""], CLASSES)
    assert targets.rows_N.tolist() == [1, 0, -1]
    assert targets.right(torch.tensor([[0.1, 0.9, 0.2], [0.1, 0.9, 0.2], [1.0, 0.0, 0.0]])).tolist() == [
        True,
        False,
        False,
    ]
    assert targets.is_known_N.tolist() == [True, True, False]
    assert not targets.right(torch.zeros(3, 0)).any()


def test_a_set_is_grouped_by_one_of_its_names_always_the_same_one() -> None:
    groups = {group_name(set_of("abc"), f"text {number}") for number in range(100)}
    assert groups == set("abc")
    assert all(group_name(set_of("abc"), "text 1") == group_name(set_of("cba"), "text 1") for _ in range(3))
    assert names_of(set_of([])) == () and group_name(set_of([]), "text 1") == ""


def test_those_of_some_samples_and_of_the_first_classes_alone() -> None:
    targets = Targets.of([set_of("ac"), set_of("b"), set_of("")], ["1", "2", "3"], CLASSES)
    some = targets.only(torch.tensor([True, False, True]))
    assert some.sets is not None and some.sets.sizes_N.tolist() == [2, 0]
    first = targets.among(2)
    assert first.sets is not None and first.sets.has_NC.tolist() == [[True, False], [False, True], [False, False]]
    assert first.sets.sizes_N.tolist() == [1, 1, 0]


def test_classes_that_are_named_are_counted_once() -> None:
    logits_NC = torch.tensor([[1.0, -1.0, 2.0], [1.0, -1.0, -2.0]])
    assert num_named(logits_NC, Targets.of(["a", "c"], ["", ""], CLASSES)) == 2
    assert num_named(logits_NC, Targets.of([set_of("a"), set_of("")], ["", ""], CLASSES)) == 2


def test_the_mean_f1_of_equal_sets_is_one() -> None:
    one_NC = torch.tensor([[True, False], [False, False]])
    assert mean_f1(one_NC, one_NC) == 1.0
    assert mean_f1(one_NC, ~one_NC) == pytest.approx(0.0)


@given(SETS)
def test_micro_f1_counts_the_names_of_all_samples_together(sets: list[frozenset[str]]) -> None:
    """A class without a row is one that was missed, and where nothing is to be named all is right."""
    targets = Targets.of([set_of(names) for names in sets], [""] * len(sets), CLASSES)
    named_NC = torch.randn(len(sets), 3, generator=torch.Generator().manual_seed(len(sets))) > 0
    num = num_right = 0
    for row, names in zip(named_NC.tolist(), sets, strict=True):
        named = {name for name, is_named in zip(CLASSES, row, strict=True) if is_named}
        num += len(named) + len(names)
        num_right += len(named & names)
    assert targets.sets is not None
    assert targets.sets.micro_f1(named_NC) == pytest.approx(2 * num_right / num if num else 1.0)
    assert targets.sets.micro_f1(targets.sets.has_NC) == pytest.approx(1.0) or any("x" in names for names in sets)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-0.5, 1.5)), min_size=1, max_size=20))
def test_a_score_is_right_as_an_answer_that_expects_it_would_be(pairs: list[tuple[float, float]]) -> None:
    labels = [unit_value(unit) for unit, _ in pairs]
    draws = [f"text {number}" for number in range(len(pairs))]
    logits_NC = torch.tensor([[logit] for _, logit in pairs], dtype=torch.float64)
    targets = Targets.of(labels, draws, (VALUE_ROW,))
    for place, (label, draw) in enumerate(zip(labels, draws, strict=True)):
        expected = unit_value(min(max(pairs[place][1], 0.0), 1.0))
        agreement = 1 - abs(value_of(expected) - value_of(label))
        if abs(draw_of(draw.encode()) - agreement) > 1e-6:  # else the rounding of float32 decides
            assert bool(targets.right(logits_NC)[place]) == is_right(expected, label, draw.encode())
    assert targets.is_known_N.all()
    assert not Targets.of(labels, draws, ()).is_known_N.any()
