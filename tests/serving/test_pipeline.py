"""What both ways in share: texts are tokenized up to the length of the live weights."""

from dataclasses import replace
from functools import partial

from serving.pipeline import encoding
from tests.serving.pipelines import pipeline_of
from tests.serving.versions import live_of, tokenizer
from wire.records import Event


def test_the_length_of_texts_is_asked_anew_each_time() -> None:
    limits = iter((3, 5))
    encode = encoding(tokenizer(), lambda: next(limits))
    assert [len(encode(["one two three four five"])[0]) for _ in range(2)] == [3, 5]


def test_more_of_a_text_is_kept_where_more_is_read() -> None:
    pipeline = pipeline_of(encoding(tokenizer(), lambda: 16))
    text = "word " * 50_000
    for max_tokens, num_chars in ((64, 16_384), (2_048, 32_768)):
        wide = replace(pipeline, max_tokens=partial(int, max_tokens))
        (item,) = wide.items([Event(id="e", text=text)], [lambda _: None])
        assert item.event.text == text[:num_chars]


def test_it_is_ready_once_there_are_weights() -> None:
    pipeline = pipeline_of(encoding(tokenizer(), lambda: 16))
    assert not pipeline.is_ready
    pipeline.engine.activate(live_of([1]))
    assert pipeline.is_ready
