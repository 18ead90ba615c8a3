"""The kind `class`: the string of a label is the name of the class, without the mark of another kind."""

import pytest

from lifelong.plugins.kinds.classes import CLASS
from wire.errors import BadMessage
from wire.kinds import MARKS, find_kind


@pytest.mark.parametrize(("value", "text"), [("refund", "refund"), (7, "7"), (True, "true"), (None, "")])
def test_numbers_and_booleans_are_names_too(value: object, text: str) -> None:
    assert CLASS.from_value(value) == text


@pytest.mark.parametrize("value", [["a", "b"], {"name": "a"}])
def test_a_list_is_refused_as_a_name(value: object) -> None:
    with pytest.raises(BadMessage, match="a label is one name"):
        CLASS.from_value(value)


def test_a_name_with_a_mark_and_a_blank_name_are_refused() -> None:
    assert all("which mark labels" in CLASS.problem(f"a{mark}b") for mark in MARKS)
    assert "blank" in CLASS.problem(" ") and not CLASS.problem("a")
    assert find_kind("a") is CLASS


def test_another_class_replaces_the_label_and_no_class_is_empty() -> None:
    assert (CLASS.with_classes("a", ["b"]), CLASS.with_classes("a", [])) == ("b", "")
