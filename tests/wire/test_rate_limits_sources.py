"""Tests the limits on each source of labels."""

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.rate_limits import Rates, Shares, SourcesState

SHARE = 0.05


def rates(**changed: float) -> Rates:
    options = {"per_s": 2.0, "burst": 3, "max_sources": 2} | changed
    return Rates(per_s=options["per_s"], burst=int(options["burst"]), max_sources=int(options["max_sources"]))


def test_a_source_sends_its_burst_and_then_its_rate() -> None:
    buckets = rates()
    assert [buckets.take("a", time_ms) for time_ms in (0, 0, 0, 0)] == [True, True, True, False]
    assert [buckets.take("a", time_ms) for time_ms in (499, 500, 500, 1_000)] == [False, True, False, True]


def test_time_that_goes_back_fills_nothing() -> None:
    buckets = rates(burst=1)
    assert [buckets.take("a", time_ms) for time_ms in (10_000, 0, 10_000, 5_000)] == [True, False, False, False]


def test_sources_do_not_share_a_bucket() -> None:
    buckets = rates(burst=1)
    assert [buckets.take(source, 0) for source in "aabb"] == [True, False, True, False]


def test_the_least_recently_seen_source_is_evicted() -> None:
    buckets = rates(burst=1)
    for source in ("a", "b", "a", "c"):
        buckets.take(source, 0)
    assert list(buckets.export()) == ["a", "c"]


def test_no_rate_is_no_limit_and_remembers_nothing() -> None:
    buckets = rates(per_s=0.0)
    assert all(buckets.take("a", 0) for _ in range(100)) and buckets.export() == {}


@given(st.lists(st.integers(0, 20_000)))
def test_no_source_sends_more_than_its_burst_and_its_rate_together(times_ms: list[int]) -> None:
    buckets = rates()
    accepted = sum(buckets.take("a", time_ms) for time_ms in times_ms)
    elapsed_ms = max(times_ms) - times_ms[0] if times_ms else 0
    assert accepted <= 3 + 2e-3 * max(elapsed_ms, 0)


def flood(num_others: int, *, times: int = 100, labels: int = 60_000) -> tuple[Counter[str], Counter[str]]:
    """Returns the labels sent and accepted by source, if `bot` sends `times` as many as each other source."""
    shares = Shares(share=SHARE, window=2_000)
    rng = random.Random(0)
    names = ["bot", *(f"desk {number}" for number in range(num_others))]
    sent = rng.choices(names, [times] + [1] * num_others, k=labels)
    return Counter(sent), Counter(name for name in sent if shares.add(name))


@pytest.mark.parametrize("num_others", [1, 3, 30])
def test_a_source_that_floods_gets_its_share_and_the_others_lose_nothing(num_others: int) -> None:
    sent, accepted = flood(num_others)
    alone_at_first = sent.total() / sent["desk 0"]
    assert accepted["bot"] > 0
    assert accepted["bot"] <= SHARE * accepted.total() + alone_at_first
    del sent["bot"], accepted["bot"]
    assert accepted == sent


@pytest.mark.parametrize("weights", [[1], [1, 1], [3, 2, 2], [1] * 40])
def test_sources_of_about_equal_size_are_not_capped(weights: list[int]) -> None:
    shares = Shares(share=SHARE, window=500)
    names = [f"desk {number}" for number in range(len(weights))]
    accepted = [shares.add(name) for name in random.Random(1).choices(names, weights, k=5_000)]
    assert sum(accepted) >= 0.99 * len(accepted)


def test_a_source_is_free_again_when_it_is_alone_again() -> None:
    shares = Shares(share=SHARE, window=50)
    for name in ["bot", *["desk"] * 10, *["bot"] * 60]:
        shares.add(name)
    assert shares.add("bot") and len(shares.export()) == 50


def test_a_long_name_is_truncated() -> None:
    shares = Shares(share=0.5, window=10)
    shares.add("x" * 1_000_000)
    assert len(shares.export()[0][0]) == 100


LABELS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3_000)))


@given(LABELS, LABELS)
def test_restored_limits_continue_unchanged(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> None:
    whole = (rates(), Shares(share=0.3, window=9))
    parts = (rates(), Shares(share=0.3, window=9))
    for source, time_ms in before:
        for limits in (whole, parts):
            limits[0].take(source, time_ms)
            limits[1].add(source)
    state = SourcesState(buckets=parts[0].export(), recent=parts[1].export())
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=SourcesState)
    parts = (
        Rates(per_s=2.0, burst=3, max_sources=2, buckets=state.buckets),
        Shares(share=0.3, window=9, recent=state.recent),
    )
    for source, time_ms in after:
        assert whole[0].take(source, time_ms) == parts[0].take(source, time_ms)
        assert whole[1].add(source) == parts[1].add(source)
    assert (whole[0].export(), whole[1].export()) == (parts[0].export(), parts[1].export())
