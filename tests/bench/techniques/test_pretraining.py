"""Checks the data and the peer of rows E3 and E5; `tests/bench/harness/test_cases.py` runs the rows."""

import gzip
from pathlib import Path

import pytest
import torch

from bench.techniques.pretraining import causal_encoder, crosswoz, first_crossing, tfidf_accuracy
from evals.results.row import Skip
from evals.streams.stream import StreamItem
from evals.streams.text_sets import TextSet
from lifelong.compress.pretrain import CurvePoint
from model.ragged import RaggedBatch
from tests.lifelong.compress.members import TOKEN_IDS, dense_strata


def test_the_first_point_at_the_target_counts() -> None:
    curve = [CurvePoint(tokens, 10 * tokens, 0.0, score) for tokens, score in ((0, 5), (10, 20), (20, 18), (30, 25))]
    assert first_crossing(curve, 20.0) == curve[1]
    assert first_crossing(curve, 20.1) == curve[3]
    assert first_crossing(curve, 26.0) is None


def test_character_ngrams_separate_words() -> None:
    train = [
        StreamItem(text, label) for text, label in (("酒店电话", "hotel"), ("酒店地址", "hotel"), ("打车", "taxi"))
    ]
    test = [StreamItem("酒店", "hotel"), StreamItem("我要打车", "taxi"), StreamItem("我要打车", "hotel")]
    assert tfidf_accuracy(TextSet("words", train, test)) == pytest.approx(200 / 3)


def test_only_new_turns_are_tested(tmp_path: Path) -> None:
    rows = {"val": "谢谢\tthank\n地址\task\n", "test": "谢谢\tthank\n电话\task\n"}
    for split, text in rows.items():
        (tmp_path / f"{split}_user_intent.tsv.gz").write_bytes(gzip.compress(text.encode()))
    found = crosswoz(tmp_path)
    assert [item.text for item in found.train] == ["谢谢", "地址"]
    assert [item.text for item in found.test] == ["电话"]
    with pytest.raises(Skip):
        crosswoz(tmp_path / "missing")


def test_acausal_encoder_vector_is_the_last_output_or_the_mean_in_the_order_of_the_texts() -> None:
    strata = dense_strata()
    for is_last in (True, False):
        encode = causal_encoder(strata, is_last=is_last)
        together = encode(RaggedBatch.of(TOKEN_IDS))
        alone = torch.cat([encode(RaggedBatch.of([ids])) for ids in TOKEN_IDS])
        torch.testing.assert_close(together, alone)
    # All but the last token alike: the mean differs from the last output.
    assert not torch.allclose(causal_encoder(strata, is_last=True)(RaggedBatch.of([[1, 7, 2]])), alone[1])
