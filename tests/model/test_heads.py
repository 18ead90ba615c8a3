"""The setting names a head, which its family opens. Without a setting, it is the ridge head."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.errors import WrongConfig
from model.heads import RIDGE, HeadSums, open_head
from tests.learner.fast.heads import Ridge, import_path


def solved() -> Tensor:
    return torch.zeros(0, 4)


class Nothing:
    """The state of a learner that has learnt nothing."""

    def head_sums(self) -> HeadSums:
        return HeadSums(torch.zeros(4, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))

    def ridge_solver(self) -> Callable[[], Tensor]:
        return solved


def test_no_setting_is_the_ridge_head_which_few_labels_update() -> None:
    assert open_head("") is RIDGE and RIDGE.is_updated
    assert RIDGE.solver(Nothing()) is solved


def test_another_head_gets_the_sums() -> None:
    head = open_head(import_path(Ridge))
    assert not head.is_updated
    assert head.solver(Nothing())().shape == (0, 4)


def test_a_setting_that_is_none_says_what_to_mend() -> None:
    with pytest.raises(WrongConfig, match=r"learner.head 'ridge\(': .* is not an import path"):
        open_head("ridge(")
