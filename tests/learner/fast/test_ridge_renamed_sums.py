"""Sums of renamed classes: rows with one name are added, and rows without a name are dropped."""

import torch

from learner.fast.ridge import in_order, renamed_sums

SUMS = {
    "gram": torch.ones(3),
    "class": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    "counts": torch.tensor([1, 2, 3]),
    "z": torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64),
    "recent_z": torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]], [[5.0], [6.0]]]),
    "recent_times": torch.tensor([[9, 4], [7, -1], [8, 6]]),
    "newest_z": torch.tensor([[[1.0], [2.0], [4.0]], [[3.0], [0.0], [0.0]], [[5.0], [6.0], [7.0]]]),
    "newest_times": torch.tensor([[9, 4, 2], [7, -1, -1], [8, 6, 5]]),
}


def test_rows_of_one_name_are_merged_into_the_first() -> None:
    sums, classes = renamed_sums(SUMS, ("a", "b", "c"), lambda name: {"a": "x", "c": "x"}.get(name, name))
    assert classes == ("x", "b") and sums["counts"].tolist() == [4, 2]
    assert sums["class"].tolist() == [[6.0, 8.0], [3.0, 4.0]] and sums["class"].dtype is torch.float64
    assert sums["z"].flatten().tolist() == [4.0, 2.0] and sums["gram"] is SUMS["gram"]
    assert sums["recent_times"].tolist() == [[9, 8], [7, -1]] and sums["recent_z"].flatten(1).tolist()[0] == [1.0, 5.0]
    assert sums["newest_times"].tolist() == [[9, 8, 6], [7, -1, -1]]
    assert sums["newest_z"].flatten(1).tolist()[0] == [1.0, 5.0, 6.0]


def test_a_class_without_a_name_is_dropped() -> None:
    sums, classes = renamed_sums(SUMS, ("a", "b", "c"), lambda name: "" if name == "a" else name)
    assert classes == ("b", "c") and sums["counts"].tolist() == [2, 3]
    nothing, none = renamed_sums(SUMS, ("a", "b", "c"), lambda name: "")
    assert none == () and nothing["class"].shape == (0, 2) and nothing["recent_times"].shape == (0, 2)


def test_all_that_has_a_row_for_each_class_is_put_in_order() -> None:
    sums = in_order(SUMS, torch.tensor([2, 0, 1]))
    assert sums["gram"] is SUMS["gram"] and sums.keys() == SUMS.keys()
    for name in SUMS.keys() - {"gram"}:
        assert torch.equal(sums[name], torch.stack([SUMS[name][2], SUMS[name][0], SUMS[name][1]])), name
