"""Heads that are selected, removed and masked."""

import dataclasses

import pytest
import torch

from lifelong.compress.heads import mask_heads, prune, select
from lifelong.compress.reshape import pool_kv_heads
from lifelong.compress.share import share
from model.config import LayerSpec, Span
from model.errors import WrongConfig
from tests.lifelong.compress.members import DENSE, dense_strata, largest_difference, num_stored

IMPORTANCE = [torch.tensor(row) for row in ([0.9, 0.1, 0.2, 0.8], [1.0, 1.1, 1.2, 1.3], [0.3, 0.2, 0.4, 0.5])] + [
    torch.tensor([2.0, 3.0, 0.1, 0.1])
]
WIDE = dataclasses.replace(DENSE, head_width=32)
"""Its heads are as wide as those of MiniLM: two of them fill a group of 64 inputs."""


def test_removing_heads_computes_the_same_as_masking_them() -> None:
    strata = dense_strata()
    kept = {0: [0, 3], 1: [0, 1, 2, 3], 2: [1], 3: [0, 2, 3]}
    pruned = prune(strata, kept)
    assert largest_difference(mask_heads(strata, kept), pruned) < 1e-5
    assert largest_difference(strata, pruned) > 1e-3
    assert [layer.heads for layer in map(pruned.config.layer, range(4))] == [2, 4, 1, 3]
    assert num_stored(pruned) < num_stored(strata)


def test_the_least_important_units_go_first() -> None:
    kept = select(dense_strata(WIDE), IMPORTANCE, 0.3)
    assert kept == {0: [0, 3], 1: [0, 1, 2, 3], 2: [2, 3], 3: [0, 1]}
    assert not select(dense_strata(WIDE), IMPORTANCE, 0.0).keys() - range(4)


def test_the_remaining_heads_fill_whole_groups_of_inputs() -> None:
    for share_removed in (0.1, 0.3, 0.5):
        kept = select(dense_strata(WIDE), IMPORTANCE, share_removed)
        assert all(len(heads) in (2, 4) for heads in kept.values())


def test_every_layer_keeps_a_unit() -> None:
    with pytest.raises(WrongConfig, match="90% of the heads cannot be removed"):
        select(dense_strata(WIDE), IMPORTANCE, 0.9)


def test_a_key_value_head_is_removed_with_its_query_heads() -> None:
    grouped = pool_kv_heads(dense_strata(WIDE), 2)
    kept = select(grouped, IMPORTANCE, 0.4)
    assert all(heads in ([0, 1], [2, 3], [0, 1, 2, 3]) for heads in kept.values())
    pruned = prune(grouped, kept)
    assert [layer.kv_heads for layer in map(pruned.config.layer, range(4))] == [len(kept[i]) // 2 for i in range(4)]
    assert largest_difference(mask_heads(grouped, kept), pruned) < 1e-5


def test_half_a_group_is_refused() -> None:
    with pytest.raises(WrongConfig, match="whole groups of 2"):
        prune(pool_kv_heads(dense_strata(), 2), {layer: [0] for layer in range(4)})


def test_layers_that_share_attention_lose_the_same_heads() -> None:
    shared = share(dense_strata(WIDE), (0, 1, 1, 0), (0, 1, 2, 3), rank=4)
    kept = select(shared, IMPORTANCE, 0.4)
    assert kept[0] == kept[3]
    assert kept[1] == kept[2]
    assert largest_difference(mask_heads(shared, kept), prune(shared, kept)) < 1e-5


def test_spans_follow_their_heads() -> None:
    spans = (Span(kind="full"), Span(kind="local", window=1))
    layers = (LayerSpec(spans=((1, 0), (3, 1))), *[LayerSpec()] * 3)
    strata = dense_strata(dataclasses.replace(DENSE, spans=spans, layers=layers))
    everything = [0, 1, 2, 3]
    kept = {0: [1, 0, 2], 1: everything, 2: everything, 3: everything}
    pruned = prune(strata, kept)
    assert pruned.config.layer(0).spans == ((1, 1), (1, 0), (1, 1))
    assert largest_difference(mask_heads(strata, kept), pruned) < 1e-5
