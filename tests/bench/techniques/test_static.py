"""Checks the peer of row `static`; `tests/bench/harness/test_cases.py` runs the row."""

from bench.techniques.static import tf_idf_accuracy
from evals.streams.stream import StreamItem
from evals.streams.text_sets import TextSet


def test_tf_idf_tells_texts_apart_by_pairs_of_words() -> None:
    train = [StreamItem(text, label) for text, label in (("good", "yes"), ("not bad", "yes"), ("not good", "no"))]
    test = [StreamItem("good", "yes"), StreamItem("not good", "no"), StreamItem("not good", "yes")]
    assert round(tf_idf_accuracy(TextSet("opinions", train, test)), 1) == 66.7
