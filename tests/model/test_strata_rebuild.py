"""Encoders from tensors by name."""

import subprocess
import sys

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


def test_the_first_encoder_without_values_imports_no_more_of_torch() -> None:
    """On the device "meta", drawing values imports `sympy` and others: a second at each start of a learner."""
    code = (
        "import sys; from model.config import StrataConfig; from model.strata import without_storage; "
        "without_storage(StrataConfig(vocab=9, d_model=4, n_layers=2, n_heads=1, d_ff=4)); "
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
