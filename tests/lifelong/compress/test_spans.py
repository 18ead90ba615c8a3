"""The measured attention of heads, and the spans that contain enough of it."""

import math
from itertools import chain, repeat

import pytest
import torch

from lifelong.compress import spans
from lifelong.compress.reshape import pool_kv_heads
from lifelong.compress.spans import allocate, measure_heads
from model.config import Span
from model.errors import WrongConfig
from tests.lifelong.compress.members import DENSE, TOKEN_IDS, changed, dense_strata, largest_difference

NEAR = Span(kind="local", window=1)
WIDE = Span(kind="local", window=3, sinks=1)
EVERYTHING = Span(kind="local", window=DENSE.max_pos)


def test_uniform_attention_has_the_highest_entropy() -> None:
    name = "layers.0.qkv.weight"
    strata = dense_strata()
    uniform = changed(strata, **{name: torch.zeros_like(strata.get_parameter(name))})
    uniform = changed(uniform, **{"layers.0.qkv.bias": torch.zeros_like(strata.get_parameter("layers.0.qkv.bias"))})
    lengths = torch.tensor([len(ids) for ids in TOKEN_IDS])
    expected = float((lengths * lengths.log()).sum() / lengths.sum())
    use = measure_heads(uniform, TOKEN_IDS, [NEAR])[0]
    torch.testing.assert_close(use.entropy_H, torch.full((4,), expected))
    assert math.isclose(float(use.num_keys_H[0]), math.exp(expected), rel_tol=1e-5)
    six_tokens = measure_heads(uniform, TOKEN_IDS[2:3], [NEAR])[0]
    torch.testing.assert_close(six_tokens.seen_NH[0], torch.full((4,), (2 + 4 * 3 + 2) / 36))


def test_the_batch_size_does_not_change_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    strata = dense_strata()
    together = measure_heads(strata, TOKEN_IDS, [NEAR])
    monkeypatch.setattr(spans, "MAX_BATCH_PAIRS", 1)
    for one, other in zip(measure_heads(strata, TOKEN_IDS, [NEAR]), together, strict=True):
        torch.testing.assert_close(one.entropy_H, other.entropy_H)
        torch.testing.assert_close(one.seen_NH, other.seen_NH)


def test_only_the_beginning_of_a_long_text_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MAX_TOKENS", 5)
    strata = dense_strata()
    long_use = measure_heads(strata, TOKEN_IDS, [NEAR])
    for one, other in zip(long_use, measure_heads(strata, [ids[:5] for ids in TOKEN_IDS], [NEAR]), strict=True):
        assert torch.equal(one.entropy_H, other.entropy_H)


def test_wider_spans_contain_more_of_the_attention() -> None:
    for use in measure_heads(dense_strata(), TOKEN_IDS, [NEAR, WIDE, EVERYTHING]):
        assert (use.seen_NH[0] < use.seen_NH[1]).all()
        torch.testing.assert_close(use.seen_NH[2], torch.ones(4))


def test_each_head_gets_the_cheapest_span_that_is_enough() -> None:
    strata = dense_strata()
    spans = [WIDE, NEAR]
    use = measure_heads(strata, TOKEN_IDS, spans)
    enough = float(torch.cat([each.seen_NH[1] for each in use]).median())
    given = allocate(strata, use, spans, enough=enough)
    for index, each in enumerate(use):
        runs = given.config.layer(index).spans
        places = list(chain.from_iterable(repeat(place, count) for count, place in runs))
        for head, place in enumerate(places):
            wide, near = (bool(seen >= enough) for seen in each.seen_NH[:, head])
            assert place == (2 if near else 1 if wide else 0)


def test_spans_that_contain_every_key_change_nothing() -> None:
    strata = dense_strata()
    use = measure_heads(strata, TOKEN_IDS, [EVERYTHING])
    given = allocate(strata, use, [EVERYTHING], enough=1 - 1e-5)
    assert {given.config.layer(index).spans for index in range(4)} == {((4, 1),)}
    assert largest_difference(strata, given) < 1e-5


def test_heads_that_share_their_keys_get_one_span() -> None:
    grouped = pool_kv_heads(dense_strata(), 2)
    use = measure_heads(grouped, TOKEN_IDS, [NEAR])
    given = allocate(grouped, use, [NEAR], enough=float(use[0].seen_NH.median()))
    assert all(count % 2 == 0 for count, _ in given.config.layer(0).spans)


def test_an_encoder_with_spans_is_refused() -> None:
    strata = dense_strata()
    use = measure_heads(strata, TOKEN_IDS, [NEAR])
    with pytest.raises(WrongConfig, match="spans already"):
        allocate(allocate(strata, use, [NEAR], enough=0.5), use, [NEAR], enough=0.5)
