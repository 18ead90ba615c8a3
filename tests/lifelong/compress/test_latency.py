"""Latencies by layer: a key is measured once, and equal layers are the same key."""

import pytest
from msgspec.structs import replace

from lifelong.compress.latency import LayerTimes
from lifelong.compress.space import Space
from tests.services.members.small import CONFIG

SPACE = Space(dense=CONFIG, num_tokens=16)


def test_layers_of_one_shape_are_measured_once() -> None:
    times = LayerTimes(SPACE, {})
    ms = times.ms(SPACE.largest)
    assert ms > 0 and len(times.times_us) == 1
    (us,) = times.times_us.values()
    assert ms == pytest.approx(CONFIG.n_layers * us / 1e3)
    known = dict(times.times_us)
    assert times.ms(replace(SPACE.largest, embed_dim=16)) == ms
    assert times.times_us == known


def test_every_gene_of_a_layer_has_its_own_key() -> None:
    times = LayerTimes(SPACE, {})
    tied = replace(SPACE.largest, ffn=(0, 0, 2, 3))
    variants = [
        *(SPACE.largest, tied, replace(tied, rank=4), replace(SPACE.largest, sparsity=0.75)),
        *(replace(SPACE.largest, bits=4), replace(SPACE.largest, kv_heads=2, kept=(0.5,) * 4)),
    ]
    assert all(times.ms(genes) > 0 for genes in variants)
    assert len(times.times_us) == len(variants)


def test_a_stored_table_is_not_measured_again() -> None:
    first = LayerTimes(SPACE, {})
    first.ms(SPACE.smallest)
    stored = {key: 1_000.0 for key in first.times_us}
    again = LayerTimes(SPACE, stored)
    assert again.ms(SPACE.smallest) == CONFIG.n_layers
    assert again.times_us == stored
