"""What both ways in share: texts are tokenized up to the length of the live weights."""

from serving.pipeline import encoding
from tests.serving.pipelines import pipeline_of
from tests.serving.versions import live_of, tokenizer


def test_the_length_of_texts_is_asked_anew_each_time() -> None:
    limits = iter((3, 5))
    encode = encoding(tokenizer(), lambda: next(limits))
    assert [len(encode(["one two three four five"])[0]) for _ in range(2)] == [3, 5]


def test_it_is_ready_once_there_are_weights() -> None:
    pipeline = pipeline_of(encoding(tokenizer(), lambda: 16))
    assert not pipeline.is_ready
    pipeline.engine.activate(live_of([1]))
    assert pipeline.is_ready
