"""What both ways in share: texts are tokenized up to the length of the live weights."""

from dataclasses import replace
from functools import partial

from serving.pipeline import make_encode, make_items
from serving.queue import DEFAULT
from tests.serving.pipelines import make_pipeline
from tests.serving.versions import live_versions, tokenizer
from wire.records import Event, text_chars


def test_the_length_of_texts_is_asked_anew_each_time() -> None:
    limits = iter((3, 5))
    encode = make_encode(tokenizer(), lambda: next(limits))
    assert [len(encode(["one two three four five"])[0]) for _ in range(2)] == [3, 5]


def test_more_of_a_text_is_kept_where_more_is_read() -> None:
    pipeline = make_pipeline(make_encode(tokenizer(), lambda: 16))
    text = "word " * 50_000
    for max_tokens, num_chars in ((64, 16_384), (2_048, 32_768)):
        wide = replace(pipeline, max_tokens=partial(int, max_tokens))
        (item,) = wide.items([Event(id="e", text=text)], [lambda _: None])
        assert item.event.text == text[:num_chars]


def test_it_is_ready_once_there_are_weights() -> None:
    pipeline = make_pipeline(make_encode(tokenizer(), lambda: 16))
    assert not pipeline.is_ready
    pipeline.engine.activate(live_versions([1]))
    assert pipeline.is_ready


def test_nothing_longer_waits_than_an_answer_carries_back() -> None:
    """B12: texts of 1 MiB waited in full, and were truncated only for their tokens."""
    events = [Event(id="long", text="word " * 200_000), Event(id="short", text="hello")]
    long, short = make_items(events, [lambda _: None] * 2, make_encode(tokenizer(), lambda: 16), DEFAULT, 16)
    assert long.event.text == events[0].text[: text_chars(16)]
    assert short.event is events[1]
    assert [item.num_tokens for item in (long, short)] == [16, 3]
    assert long.num_bytes < 20_000
