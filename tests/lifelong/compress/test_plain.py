"""The plain encoder that computes the same as a compressed one."""

import dataclasses

import pytest

from lifelong.compress.heads import prune
from lifelong.compress.plain import to_dense
from lifelong.compress.reshape import factorise_embedding, pool_kv_heads
from lifelong.compress.share import share
from model.config import LayerSpec, Span
from model.errors import WrongConfig
from tests.lifelong.compress.members import DENSE, dense_strata, largest_difference


def test_every_compression_has_an_inverse() -> None:
    member = share(factorise_embedding(dense_strata(), 16), (0, 0, 2, 2), (0, 1, 1, 1), rank=4)
    member = prune(pool_kv_heads(member, 2), {0: [0, 1], 1: [0, 1], 2: [0, 1, 2, 3], 3: [0, 1, 2, 3]})
    dense = to_dense(member)
    assert largest_difference(member, dense) < 1e-5
    assert dense.config.canonical_json() == DENSE.canonical_json()


def test_a_plain_encoder_does_not_change() -> None:
    strata = dense_strata()
    assert largest_difference(strata, to_dense(strata)) == 0
    assert to_dense(strata).config.canonical_json() == DENSE.canonical_json()


def test_limited_spans_are_refused() -> None:
    layers = (LayerSpec(spans=((4, 0),)), *[LayerSpec()] * 3)
    config = dataclasses.replace(DENSE, spans=(Span(kind="local", window=1),), layers=layers)
    with pytest.raises(WrongConfig, match="limited spans"):
        to_dense(dense_strata(config))
