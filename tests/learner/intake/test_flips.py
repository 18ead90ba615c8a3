"""The charts: what raises them, what does not, and what they remember."""

import random
from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from learner.intake.flips import MAX_CONTEXTS, MAX_EVENTS, MAX_OUTCOMES, Chart, Charts, ChartsState

Trial = tuple[str, str | None]


def make_charts(trials: Iterable[Trial]) -> Charts:
    charts = Charts()
    for context, outcome in trials:
        charts.add(context, outcome)
    return charts


def quiet(num: int, *, seed: int = 0, wrong: float = 0.05) -> list[Trial]:
    """Returns trials of 20 contexts, in each of which one of eight outcomes goes wrong now and then."""
    rng = random.Random(seed)
    trials: list[Trial] = []
    for _ in range(num):
        context = f"context {rng.randrange(20)}"
        outcome = f"outcome {rng.randrange(8)}" if rng.random() < wrong else None
        trials.append((context, outcome))
    return trials


def trials_until_raised(charts: Charts, outcomes: Iterable[str | None]) -> int:
    """Returns after how many trials of context 0 `bad` is raised there; 0 where it never is."""
    for number, outcome in enumerate(outcomes, start=1):
        charts.add("context 0", outcome)
        if charts.is_raised("context 0", "bad"):
            return number
    return 0


def test_six_in_a_row_raise_it() -> None:
    charts = make_charts(quiet(2_000))
    assert trials_until_raised(charts, ["bad"] * 10) == 6
    assert charts.raised_charts() == [("context 0", "bad")]


def test_every_second_one_raises_it_within_twenty() -> None:
    num_trials = trials_until_raised(make_charts(quiet(2_000)), ["bad", None] * 10)
    assert num_trials
    assert num_trials <= 20


def test_it_ends_after_its_cause() -> None:
    charts = make_charts(quiet(2_000))
    assert trials_until_raised(charts, ["bad"] * 10)
    for context, outcome in quiet(2_000, seed=1):
        charts.add(context, "bad" if context == "context 0" else outcome)
    assert charts.is_raised("context 0", "bad")
    for context, outcome in quiet(600, seed=2):  # some 30 of them are of context 0
        charts.add(context, None if context == "context 0" else outcome)
    assert charts.raised_charts() == []


def test_a_quiet_stream_raises_nothing() -> None:
    for seed in range(5):
        charts = Charts()
        for context, outcome in quiet(10_000, seed=seed, wrong=0.1):
            charts.add(context, outcome)
            assert charts.raised_charts() == []


def test_what_was_always_so_raises_nothing() -> None:
    rng = random.Random(0)
    charts = Charts()
    for context, outcome in quiet(10_000):
        often = "bad" if rng.random() < 0.4 else None
        charts.add(context, often if context == "context 0" else outcome)
        assert not charts.is_raised("context 0", "bad")


def test_what_goes_wrong_everywhere_at_once_raises_nothing() -> None:
    charts = make_charts(quiet(2_000))
    rng = random.Random(0)
    for context, _ in quiet(2_000, seed=1):
        charts.add(context, "bad" if rng.random() < 0.9 else None)
        assert charts.raised_charts() == []


def test_a_context_that_is_new_raises_nothing() -> None:
    charts = make_charts(quiet(2_000))
    for number in range(200):
        charts.add("new", "bad" if number < 40 else None)
        assert not charts.is_raised("new", "bad")


def test_one_context_alone_is_compared_with_nothing() -> None:
    assert make_charts([("only", "bad")] * 500).raised_charts() == []


def test_the_memory_is_bounded() -> None:
    charts = make_charts((f"context {number}", "x") for number in range(2 * MAX_CONTEXTS))
    for number in range(1_000):
        charts.add("last", f"outcome {number}")
    state = charts.export()
    assert len(state.contexts) == MAX_CONTEXTS and len(state.contexts["last"].charts) <= MAX_OUTCOMES


TRIALS = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from("xyz"), st.booleans()), max_size=150)


@given(TRIALS, TRIALS)
def test_restored_charts_go_on_as_if_nothing_had_happened(
    before: list[tuple[str, str | None, bool]], after: list[tuple[str, str | None, bool]]
) -> None:
    whole = Charts()
    first = Charts()
    for context, outcome, is_charted in before:
        whole.add(context, outcome, is_charted=is_charted)
        first.add(context, outcome, is_charted=is_charted)
    state = first.export()
    second = Charts(msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=ChartsState))
    for context, outcome, is_charted in after:
        whole.add(context, outcome, is_charted=is_charted)
        second.add(context, outcome, is_charted=is_charted)
        first.add(context, None)
    assert whole.export() == second.export()
    assert state == charted(before).export()


def charted(trials: list[tuple[str, str | None, bool]]) -> Charts:
    charts = Charts()
    for context, outcome, is_charted in trials:
        charts.add(context, outcome, is_charted=is_charted)
    return charts


def test_a_chart_remembers_the_events_since_its_sum_was_zero_until_it_is_raised() -> None:
    charts = make_charts(quiet(2_000))
    charts.add("context 0", "bad", event=1)
    for _ in range(20):
        charts.add("context 0", None, event=2)
    assert charts.chart("context 0", "bad").events == []
    for event in range(3, 20):
        charts.add("context 0", "bad", event=event)
    assert charts.chart("context 0", "bad").events == [3, 4, 5, 6, 7, 8]
    again = Charts(msgspec.msgpack.decode(msgspec.msgpack.encode(charts.export()), type=ChartsState))
    assert again.export() == charts.export()


def test_a_chart_remembers_a_bounded_number_of_events() -> None:
    chart = Chart()
    for event in range(1_000):
        chart.count("", event)
    assert chart.events == list(range(1_000 - MAX_EVENTS, 1_000))
