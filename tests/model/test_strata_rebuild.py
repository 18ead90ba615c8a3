"""Encoders from tensors by name."""

import pytest

from model.strata import rebuilt, state_of
from tests.lifelong.compress.members import DENSE, changed, dense_strata, largest_difference


def test_an_encoder_from_its_own_tensors_is_the_same_and_shares_no_memory() -> None:
    strata = dense_strata()
    again = rebuilt(DENSE, state_of(strata))
    assert largest_difference(strata, again) == 0
    again.get_parameter("layers.0.qkv.weight").data.zero_()
    assert largest_difference(strata, again) > 0
    assert not again.training
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_what_is_missing_is_named() -> None:
    state = state_of(dense_strata())
    del state["layers.2.up.bias"]
    with pytest.raises(RuntimeError, match=r"layers\.2\.up\.bias"):
        rebuilt(DENSE, state)


def test_other_values_change_what_is_computed() -> None:
    strata = dense_strata()
    bias = strata.get_parameter("layers.0.out.bias")
    assert largest_difference(strata, changed(strata, layers__0__out__bias=bias + 1)) > 0
