"""The top blocks of an encoder. tests/learner/rounds/test_trainer.py loads trained ones."""

from dataclasses import replace

from learner.encoder.base import load_top, lower_digests, top_state, with_own_top
from model.grid import attach_grids, find_grid
from model.weights import encoder_tensors
from tests.learner.small_learner import small_strata


def test_a_second_encoder_has_its_own_top_and_shares_the_rest() -> None:
    strata = small_strata()
    second = with_own_top(strata, 1)
    assert second.embed is strata.embed and second.layers[0] is strata.layers[0]
    own = {id(value) for value in second.layers[1].parameters()}
    assert own.isdisjoint({id(value) for value in strata.layers[1].parameters()})


def test_a_top_without_grids_leaves_none() -> None:
    strata = small_strata()
    attach_grids(strata, encoder_tensors(strata, first_layer=1))
    load_top(strata, top_state(small_strata(), 1))
    assert all(find_grid(module) is None for module in strata.modules())


def test_weights_that_are_pooled_otherwise_are_another_encoder() -> None:
    strata = small_strata()
    digests = lower_digests(strata)
    strata.config = replace(strata.config, pooling="cls")
    assert not set(digests) & set(lower_digests(strata))
