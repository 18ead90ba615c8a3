"""One class: its string is its name, which has no mark of another kind."""

import pytest

from lifelong.plugins.kinds.classes import CLASS
from wire.errors import BadMessage
from wire.kinds import MARKS, kind_of


@pytest.mark.parametrize(("value", "text"), [("refund", "refund"), (7, "7"), (True, "true"), (None, "")])
def test_numbers_and_truth_values_are_names_too(value: object, text: str) -> None:
    assert CLASS.from_value(value) == text


@pytest.mark.parametrize("value", [["a", "b"], {"name": "a"}])
def test_a_list_is_no_name(value: object) -> None:
    with pytest.raises(BadMessage, match="a label is one name"):
        CLASS.from_value(value)


def test_a_name_with_a_mark_or_without_a_letter_is_wrong() -> None:
    assert all("which mark labels" in CLASS.problem(f"a{mark}b") for mark in MARKS)
    assert "blank" in CLASS.problem(" ") and not CLASS.problem("a")
    assert kind_of("a") is CLASS


def test_a_class_in_the_place_of_it_is_the_label_and_none_is_empty() -> None:
    assert (CLASS.with_classes("a", ["b"]), CLASS.with_classes("a", [])) == ("b", "")
