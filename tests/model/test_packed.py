"""Vectors of another shape are refused, and the head of an encoder in full precision can be resized."""

import pytest
import torch

from model.errors import WrongShape
from model.packed import checked
from tests.learner.small_learner import CONFIG, small_strata


def test_vectors_are_one_of_the_width_for_each_input() -> None:
    z_BD = torch.zeros(2, CONFIG.d_model)
    assert checked(z_BD, 2, CONFIG) is z_BD
    for wrong in (torch.zeros(3, CONFIG.d_model), torch.zeros(2, 1), torch.zeros(2)):
        with pytest.raises(WrongShape, match=r"gives vectors .*; expected \[2, 64\]"):
            checked(wrong, 2, CONFIG)


def test_the_head_of_a_config_is_resized() -> None:
    strata = small_strata()
    strata.resize_head(head_features=32, label_capacity=4)
    assert (strata.config.head_features, strata.config.label_capacity) == (32, 4)
