"""Checks that a model predicts the labels that it was trained on."""

from pathlib import Path

from bench.techniques.tasks import served_model
from evals.streams.stream import StreamItem
from model.bert import load_encoder
from model.ragged import RaggedBatch
from tests.services.members.small import write_small

ITEMS = [StreamItem("play the song", "music"), StreamItem("rain today", "weather")]


def test_it_names_the_labels_of_the_texts_that_it_learnt(tmp_path: Path) -> None:
    strata, tokenizer = load_encoder(write_small(tmp_path / "small"))
    model = served_model(strata, tokenizer, ITEMS)
    z_BD = model.encoder.encode(RaggedBatch.of(tokenizer.encode_many([item.text for item in ITEMS])))
    rows = model.head.logits(z_BD, len(model.labels)).argmax(dim=1).tolist()
    assert [model.labels[row] for row in rows] == ["music", "weather"]
