"""Checks the texts of recall, and that a small encoder learns from them."""

from dataclasses import replace

import numpy as np
import torch

from bench.techniques.recall import (
    DENSE_BELOW,
    FULL,
    LOCAL,
    NOT_ASKED,
    NUM_KEYS,
    SPARSE,
    Lesson,
    RecallNet,
    draw,
    recall,
    train,
)

LESSON = Lesson(length=24, num_pairs=2, num_queries=6, batch=4, steps=6)


def test_a_query_asks_for_the_value_behind_its_key() -> None:
    ids_BS, targets_BS = draw(LESSON, np.random.default_rng(0))
    for ids_S, targets_S in zip(ids_BS.tolist(), targets_BS.tolist(), strict=True):
        values = dict(zip(ids_S[:4:2], ids_S[1:4:2], strict=True))
        asked = [place for place, target in enumerate(targets_S) if target != NOT_ASKED]
        assert len(asked) == 6 and min(asked) >= 4
        assert [values[ids_S[place]] - NUM_KEYS for place in asked] == [targets_S[place] for place in asked]


def test_training_lowers_the_loss_and_is_repeatable() -> None:
    config = replace(FULL, n_layers=1, d_model=16, n_heads=2, d_ff=16)
    losses: list[list[float]] = []
    for _ in range(2):
        torch.manual_seed(0)
        net = RecallNet(config)
        losses.append(train(net, [replace(LESSON, steps=40)], rate=1e-2, seed=0))
    assert losses[0] == losses[1]
    assert sum(losses[0][-10:]) < sum(losses[0][:10])
    assert 0 <= recall(net, LESSON, seed=0) <= 100


def test_spans_see_short_texts_whole() -> None:
    torch.manual_seed(0)
    full = RecallNet(FULL).eval()
    ids_BS, _ = draw(replace(LESSON, length=DENSE_BELOW - 1, batch=1), np.random.default_rng(1))
    with torch.no_grad():
        expected = full(ids_BS)
        for config in (SPARSE, LOCAL):
            assert torch.allclose(full.with_spans(config).eval()(ids_BS), expected, atol=1e-4)
