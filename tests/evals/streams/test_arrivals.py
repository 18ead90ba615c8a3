"""The orders of a stream without pauses."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.streams.arrivals import CHANGED_AT, LAST_ARRIVAL, RENAMED, mixed, one_after_another, recurring
from evals.streams.stream import Stage, Stream, StreamItem, TextStage

NUM_EVENTS = 2_000


def stage(name: str) -> TextStage:
    items = [StreamItem(f"{name}{number % 4} {number // 4}", f"{name}{number % 4}") for number in range(32)]
    return Stage(name, tuple(items), tuple(items[:4]))


STREAM = Stream("made", tuple(map(stage, "abcde")))
SEEDS = st.integers(0, 2**32)


def test_stages_follow_one_another() -> None:
    arrivals = one_after_another(STREAM).arrivals
    assert [stage for _, stage in arrivals] == sorted(list(range(5)) * 32)
    assert [item for item, _ in arrivals] == list(chain.from_iterable(stage.train for stage in STREAM.stages))


@given(SEEDS)
def test_at_a_desk_every_item_comes_once_and_classes_keep_coming(seed: int) -> None:
    stream = recurring(STREAM, seed)
    assert stream == recurring(STREAM, seed)
    assert Counter(stream.arrivals) == Counter(one_after_another(STREAM).arrivals)
    assert stream.num_events == STREAM.num_events
    stages = [stage for _, stage in stream.arrivals]
    assert 0 in stages[: len(stages) // 2] and 0 in stages[len(stages) // 2 :]


def test_at_a_desk_new_classes_come_on_the_way() -> None:
    stages = [stage for _, stage in recurring(STREAM, 0).arrivals]
    first = [stages.index(number) / len(stages) for number in range(5)]
    assert first == sorted(first)
    assert first[-1] > 0.3


@given(SEEDS)
def test_in_a_mixed_stream_names_change_on_the_way(seed: int) -> None:
    stream = mixed(STREAM, seed, NUM_EVENTS)
    assert stream.num_events == NUM_EVENTS
    for place, (item, number) in enumerate(stream.arrivals):
        part = place / NUM_EVENTS
        assert number <= part / LAST_ARRIVAL * 5
        made_of = item.text.split()[0]
        if made_of == "a1" and part < CHANGED_AT:
            assert item.label == "a0"
        elif made_of == "a2" and part >= CHANGED_AT:
            assert item.label == f"a2{RENAMED}"
        else:
            assert item.label == made_of
    tested = {item.label for item in stream.stages[0].test}
    assert tested == {"a0", "a1", f"a2{RENAMED}", "a3"}


def test_in_a_mixed_stream_some_classes_are_frequent_and_texts_come_again() -> None:
    stream = mixed(STREAM, 0, NUM_EVENTS)
    made_of = Counter(item.text.split()[0] for item, _ in stream.arrivals)
    assert len(made_of) == 20
    assert max(made_of.values()) > 8 * min(made_of.values())
    text, times = Counter(item.text for item, _ in stream.arrivals).most_common(1)[0]
    name = text.split()[0]
    assert times == pytest.approx(made_of[name] / 8, abs=1)
