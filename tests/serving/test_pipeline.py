"""The conversion of events to items of the queue."""

from serving.pipeline import encoding
from tests.serving.pipelines import pipeline_of
from tests.serving.versions import tokenizer
from wire.records import MAX_TEXT_CHARS, Event


def test_nothing_longer_waits_than_an_answer_carries_back() -> None:
    """B12: texts of 1 MiB waited in full, and were truncated only for their tokens."""
    events = [Event(id="long", text="word " * 200_000), Event(id="short", text="hello")]
    pipeline = pipeline_of(encoding(tokenizer(), max_tokens=lambda: 16))
    long, short = pipeline.items(events, [lambda _: None] * 2)
    assert long.event.text == events[0].text[:MAX_TEXT_CHARS]
    assert short.event is events[1]
    assert [item.num_tokens for item in (long, short)] == [16, 3]
    assert long.num_bytes < 2 * MAX_TEXT_CHARS
