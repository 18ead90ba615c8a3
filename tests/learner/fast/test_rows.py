"""The rows of classes, and the size of their tables."""

import pytest
import torch

from learner.fast.rows import ClassRows, grown


def test_rows_are_given_in_the_order_of_the_classes_until_none_is_left() -> None:
    rows = ClassRows(2, ["a"])
    assert [rows.admit(label) for label in ("b", "a", "c")] == [True, True, False]
    assert rows.labels == ("a", "b")
    assert rows.of(["b", "a", "b"]).tolist() == [1, 0, 1]
    assert len(rows) == 2


def test_a_new_class_takes_the_row_of_an_old_class() -> None:
    rows = ClassRows(2, ["a", "b"])
    rows.replace("a", "c")
    assert rows.of(["c", "b"]).tolist() == [0, 1]
    with pytest.raises(KeyError):
        rows.of(["a"])


def test_a_table_grows_by_rows_with_the_fill_value() -> None:
    table = torch.arange(6).reshape(3, 2)
    larger = grown(table, 5, fill=-1)
    assert larger.tolist() == [[0, 1], [2, 3], [4, 5], [-1, -1], [-1, -1]]
    assert grown(larger, 4) is larger
