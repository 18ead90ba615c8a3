"""Tests that the mean of right answers is the mean agreement, and that two answers differ as rarely as possible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.kinds.scores import scaled_label
from lifelong.plugins.kinds.sets import f1, join_names
from wire.kinds import event_uniform_hash, is_right

SETS = st.frozensets(st.sampled_from("abcdef"))
EVENTS = [f"event-{number}".encode() for number in range(4_000)]


@given(SETS, SETS)
def test_f1_is_symmetric_and_one_only_for_equal_sets(one: frozenset[str], other: frozenset[str]) -> None:
    assert f1(one, other) == f1(other, one)
    assert 0 <= f1(one, other) <= 1
    assert (f1(one, other) == 1) == (one == other)


@pytest.mark.parametrize(("named", "label"), [("ab", "abc"), ("a", "abc"), ("abcd", "d"), ("", "a"), ("", "")])
def test_the_expected_share_of_right_answers_is_the_mean_f1(named: str, label: str) -> None:
    right = [is_right(join_names(named), join_names(label), event) for event in EVENTS]
    assert sum(right) / len(right) == pytest.approx(f1(named, label), abs=0.03)


@given(SETS, SETS, SETS, st.binary())
def test_an_answer_with_higher_agreement_is_right_if_the_other_one_is(
    one: frozenset[str], other: frozenset[str], label: frozenset[str], event: bytes
) -> None:
    worse, better = sorted((one, other), key=lambda named: f1(named, label))
    assert is_right(join_names(better), join_names(label), event) >= is_right(
        join_names(worse), join_names(label), event
    )


def test_a_single_class_is_right_or_wrong_for_every_draw() -> None:
    for event in EVENTS[:100]:
        assert 0 <= event_uniform_hash(event) < 1
        assert is_right("a", "a", event)
        assert not is_right("b", "a", event)
        assert not is_right(None, "a", event)
        assert not is_right(None, join_names([]), event)


@pytest.mark.parametrize(("expected", "value"), [(0.25, 0.75), (0.5, 0.5), (0.9, 0.85), (0.0, 1.0)])
def test_the_expected_share_of_right_scores_is_one_minus_the_absolute_error(expected: float, value: float) -> None:
    right = [is_right(scaled_label(expected), scaled_label(value), event) for event in EVENTS]
    assert sum(right) / len(right) == pytest.approx(1 - abs(expected - value), abs=0.03)
    assert not is_right(None, scaled_label(value), EVENTS[0])
