"""The rows of classes."""

import pytest

from learner.fast.head import ClassRows


def test_rows_are_given_in_the_order_of_the_classes_until_none_is_left() -> None:
    rows = ClassRows(2, ["a"])
    assert [rows.admit(label) for label in ("b", "a", "c")] == [True, True, False]
    assert rows.labels == ("a", "b")
    assert rows.of(["b", "a", "b"]).tolist() == [1, 0, 1]
    assert len(rows) == 2


def test_a_new_class_takes_the_row_of_an_old_one() -> None:
    rows = ClassRows(2, ["a", "b"])
    rows.replace("a", "c")
    assert rows.of(["c", "b"]).tolist() == [0, 1]
    with pytest.raises(KeyError):
        rows.of(["a"])
