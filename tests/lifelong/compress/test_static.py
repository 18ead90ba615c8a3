"""Distillation of a static encoder: the first table, learning, and resumption."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from lifelong.compress.distillation import resume, write_checkpoint
from lifelong.compress.static import (
    Lesson,
    StaticDistiller,
    StaticOptions,
    distillation_key,
    frequent_pairs,
    make_lesson,
    principal_components,
    sif_weights,
)
from model.errors import WrongConfig
from model.quantized import QuantizedEncoder
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors
from tests.lifelong.compress.members import dense_strata
from tests.services.members.small import CONFIG, WORDS, tokenizer_json

TEXTS = ("please play the song", "stop the music now", "rain today", "the weather now please", "play music loud")

OPTIONS = StaticOptions(width=16, pairs=6, steps=60, batch=4, rate=1e-2)


def lesson() -> Lesson:
    strata = dense_strata(CONFIG)
    tokenizer = TextTokenizer(tokenizer_json(), max_tokens=24)
    teacher = QuantizedEncoder.from_tensors(CONFIG, encoder_tensors(strata))
    return make_lesson(teacher, tokenizer, tokenizer.encode_many(TEXTS), say=lambda _: None)


def distiller(options: StaticOptions = OPTIONS) -> StaticDistiller:
    return StaticDistiller(lesson(), options, max_sequence=24, prefix="")


def test_the_table_learns_the_directions_of_the_teacher() -> None:
    training = distiller()
    assert training.whole.config.rows == len(WORDS) + training.whole.config.pairs + 1
    first = training.step()
    while not training.is_done:
        last = training.step()
    assert last > max(first, 0.9)
    assert not training.whole.embed.table[-1].any(), "the row of unknown pairs"


def test_the_first_table_has_the_weighted_vectors_of_the_tokens() -> None:
    known = lesson()
    table_VD = distiller().whole.embed.table.detach()
    basis_KD = principal_components(known.z_NK, OPTIONS.width)
    assert known.special == (1, 2) and not table_VD[[1, 2]].any()
    weight_V = sif_weights(known.token_ids, len(WORDS))
    torch.testing.assert_close(table_VD[5], weight_V[5] * (known.z_VK[5] @ basis_KD))
    assert not table_VD[len(WORDS) :].any(), "pairs begin at 0"


def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, killed, resumed = distiller(), distiller(), distiller()
    while not whole.is_done:
        whole.step()
    for _ in range(23):
        killed.step()
    path = tmp_path / "static.checkpoint"
    write_checkpoint(path, killed, "key")
    assert resume(path, resumed, "key") and resumed.num_done == 23
    while not resumed.is_done:
        resumed.step()
    assert torch.equal(resumed.whole.embed.table, whole.whole.embed.table)
    assert not torch.equal(killed.whole.embed.table, whole.whole.embed.table)


def test_seeds_draw_other_orders() -> None:
    one, other = distiller(), distiller(StaticOptions(width=16, pairs=6, steps=60, batch=4, rate=1e-2, seed=1))
    for training in (one, other):
        for _ in range(3):
            training.step()
    assert not torch.equal(one.whole.embed.table, other.whole.embed.table)


@given(num=st.integers(2, 30), width=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_principal_components_are_orthonormal_and_in_order(num: int, width: int, seed: int) -> None:
    z_NK = torch.randn(num, 8, generator=torch.Generator().manual_seed(seed))
    basis_KD = principal_components(z_NK, width)
    assert basis_KD.shape == (8, min(8, width))
    torch.testing.assert_close(basis_KD.T @ basis_KD, torch.eye(basis_KD.shape[1]), atol=1e-5, rtol=0)
    variance_D = (z_NK @ basis_KD).var(dim=0)
    assert (variance_D.diff() <= 1e-4).all()


@given(token_ids=st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=8), max_size=8), most=st.integers(0, 9))
def test_the_pairs_are_sorted_and_frequent(token_ids: list[list[int]], most: int) -> None:
    pairs = frequent_pairs(token_ids, most).tolist()
    assert pairs == sorted(pairs) and len(pairs) <= most
    joined = [pair for ids in token_ids for pair in pairwise(ids)]
    counts = [joined.count((left, right)) for left, right in pairs]
    assert all(count >= 2 for count in counts)
    others = {pair: joined.count(pair) for pair in joined if list(pair) not in pairs}
    if len(pairs) == most and counts:
        assert max(others.values(), default=0) <= min(counts)
    else:
        assert max(others.values(), default=0) < 2 or most == 0


def test_rare_tokens_weigh_more() -> None:
    weight_V = sif_weights([[1, 5, 2], [1, 5, 5, 2], [1, 6, 2]], 8)
    assert weight_V[6] > weight_V[5] and (weight_V > 0).all() and (weight_V < 1).all()


def test_too_few_texts_are_refused() -> None:
    tokenizer = TextTokenizer(tokenizer_json(), max_tokens=24)
    teacher = QuantizedEncoder.from_tensors(CONFIG, encoder_tensors(dense_strata(CONFIG)))
    with pytest.raises(WrongConfig, match="there are 1 texts"):
        make_lesson(teacher, tokenizer, tokenizer.encode_many(TEXTS[:1]), say=lambda _: None)


def test_the_key_covers_teacher_texts_and_options() -> None:
    keys = {
        distillation_key("a", [[1, 2]], OPTIONS),
        distillation_key("b", [[1, 2]], OPTIONS),
        distillation_key("a", [[1, 3]], OPTIONS),
        distillation_key("a", [[1, 2]], StaticOptions()),
    }
    assert len(keys) == 4


def test_a_lesson_has_unit_vectors_of_every_token_and_text() -> None:
    known = lesson()
    assert known.z_NK.shape == (len(TEXTS), CONFIG.d_model) and known.z_VK.shape == (len(WORDS), CONFIG.d_model)
    for z_BK in (known.z_NK, known.z_VK):
        torch.testing.assert_close(functional.normalize(z_BK, dim=1), z_BK)
