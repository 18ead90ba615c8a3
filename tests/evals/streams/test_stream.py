"""Streams are truncated evenly, and shuffled only within their stages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.streams.arrivals import one_after_another
from evals.streams.stream import Stage, Stream, StreamItem, TextStage, even_shares
from learner.errors import DataError


def stage(name: str, num_train: int) -> TextStage:
    train = tuple(StreamItem(f"{name} {number}", f"{name}-{number % 2}") for number in range(num_train))
    return Stage(name, train, train[:1])


STREAM = Stream("made", (stage("a", 10), stage("b", 4), stage("c", 10)))


@given(st.integers(0, 200), st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_shares_are_as_even_as_the_sizes_allow(total: int, sizes: list[int]) -> None:
    shares = even_shares(total, sizes)
    assert sum(shares) == min(total, sum(sizes))
    assert all(share <= size for share, size in zip(shares, sizes, strict=True))
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert not cut or max(shares) - min(cut) <= 1


def test_a_limited_stream_has_the_given_number_of_events() -> None:
    few = STREAM.limited(15)
    assert [len(stage.train) for stage in few.stages] == [6, 4, 5]
    assert few.stages[0].train == STREAM.stages[0].train[:6]
    assert [stage.test for stage in few.stages] == [stage.test for stage in STREAM.stages]


def test_no_limit_and_a_large_limit_do_not_change_the_stream() -> None:
    assert STREAM.limited(None) is STREAM
    assert STREAM.limited(1_000) is STREAM


def test_a_stage_without_an_event_is_refused() -> None:
    with pytest.raises(DataError, match="2 events are too few: made has 3 stages"):
        STREAM.limited(2)


@given(st.integers(), st.integers())
def test_shuffling_keeps_the_items_of_a_stage(seed: int, other: int) -> None:
    mixed = STREAM.shuffled(seed)
    assert [sorted(map(str, stage.train)) for stage in mixed.stages] == [
        sorted(map(str, stage.train)) for stage in STREAM.stages
    ]
    assert mixed == STREAM.shuffled(seed)


def test_seeds_give_different_orders() -> None:
    assert STREAM.shuffled(0) != STREAM.shuffled(1)


@pytest.mark.parametrize(("num_train", "rate"), [(10, 10.0), (168, 11.2), (999, 66.6), (1_000, 200.0), (1_500, 200.0)])
def test_a_short_stage_is_played_slower(num_train: int, rate: float) -> None:
    assert Stream("made", (stage("a", 4), stage("b", num_train))).default_rate == rate


@pytest.mark.parametrize(("num_train", "rate"), [(100, 10.0), (1_344, 16.8), (40_000, 200.0)])
def test_a_stream_without_pauses_is_spread_over_time(num_train: int, rate: float) -> None:
    assert one_after_another(Stream("made", (stage("a", num_train),))).default_rate == rate


def test_small_stages_decide_on_fewer_labels() -> None:
    assert [Stream("made", (stage("a", size),)).labels_to_decide(0.2) for size in (1, 168, 1_500)] == [8, 8, 75]
