"""Checks that an engine answers every text like the model alone, and the measurement of its time."""

from bench.techniques.replica_engine import answer_labels, busy_share
from model.ragged import RaggedBatch
from tests.serving.versions import make_model, tokenizer

TEXTS = ["where is my card", "close it", "my card"]


def test_each_text_gets_the_name_that_the_model_gives_it() -> None:
    model = make_model(1)
    z_BD = model.encoder.encode(RaggedBatch.of(tokenizer().encode_many(TEXTS)))
    scores_BC = model.head.logits(z_BD, len(model.labels))
    assert answer_labels(model, tokenizer(), TEXTS) == [model.labels[row] for row in scores_BC.argmax(dim=1).tolist()]


def test_the_share_is_less_than_the_time_that_passes() -> None:
    """Between two batches the engine takes the next batch, so a share of 1 would be a wrong measurement."""
    share = busy_share(make_model(1), tokenizer(), TEXTS, seconds=0.05)
    assert 0 < share < 1
