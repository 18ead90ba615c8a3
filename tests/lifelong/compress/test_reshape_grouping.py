"""Grouped keys and values."""

import pytest
import torch

from lifelong.compress.cost import parameters
from lifelong.compress.reshape import pool_kv_heads
from lifelong.compress.share import share
from model.errors import WrongConfig
from tests.lifelong.compress.members import DENSE, changed, dense_strata, largest_difference, num_stored


def test_groups_of_equal_heads_compute_the_same() -> None:
    strata = dense_strata()
    for layer in range(DENSE.n_layers):
        for kind in ("weight", "bias"):
            rows = strata.get_parameter(f"layers.{layer}.qkv.{kind}")
            keys_values = rows[DENSE.d_model :].reshape(2, 2, 2, 16, *rows.shape[1:])
            equal = keys_values[:, :, :1].expand_as(keys_values).flatten(0, 3)
            strata = changed(
                strata, **{f"layers__{layer}__qkv__{kind}": torch.cat((rows[: DENSE.d_model], equal)).detach()}
            )
    pooled = pool_kv_heads(strata, 2)
    assert largest_difference(strata, pooled) < 1e-6
    assert num_stored(pooled) == parameters(pooled.config).total < num_stored(strata)


def test_tied_layers_with_pairs_can_be_pooled() -> None:
    strata = dense_strata()
    shared = share(strata, (0, 0, 2, 2), (0, 1, 2, 3), rank=DENSE.d_model)
    assert largest_difference(pool_kv_heads(strata, 2), pool_kv_heads(shared, 2)) < 1e-5


@pytest.mark.parametrize("kv_heads", [0, 3])
def test_groups_that_do_not_divide_the_heads_are_refused(kv_heads: int) -> None:
    with pytest.raises(WrongConfig, match="expected a divisor"):
        pool_kv_heads(dense_strata(), kv_heads)
