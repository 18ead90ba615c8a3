"""Tests the display of a run, with a terminal and without one."""

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evals.load.ledger import TRAIN, Ledger, LoadCounts, Progress
from evals.load.score import Hits
from evals.load.watcher import ServiceSnapshot, Watcher
from services.demo import report
from services.demo.report import View, progress_line, progress_panel, say, update_rate
from tests.evals.load.examples import STREAM
from tests.waiting import eventually
from wire.records import Arm, Drift, Evaluation, RolloutPlan
from wire.store import Store

ARMS = (Arm(name="stable", version=3, share=0.8), Arm(name="candidate", version=4, share=0.2))
SNAPSHOT = ServiceSnapshot(
    plan=RolloutPlan(revision=5, salt="", arms=ARMS),
    current=4,
    evaluation=Evaluation(num_labels=50, accuracy=0.9, parent_accuracy=0.8),
    published=4,
    swaps=9,
    drifts=2,
    drift=Drift(signal="classes 1-16", at_label=70, before=0.125, after=0.5),
)
PROGRESS = Progress(
    counts=LoadCounts(sent=8, answered=6, due=4, labelled=3),
    kinds={},
    hits={(TRAIN, 0): Hits(2, 2, 1), (TRAIN, 1): Hits(2, 2, 2), (0, 0): Hits(2, 2, 2), (1, 0): Hits(2, 0, 0)},
    arms={"stable": Hits(4, 4, 3)},
    first_ms={},
    recent_ms=(10, 20, 30),
    precisions={"int8": 6},
)


def shown(*what: object) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(*what)
    return read_text(console)


def read_text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_says_how_far_how_fast_how_well() -> None:
    text = progress_line(PROGRESS, SNAPSHOT, 123.4)
    assert "6 of 8 answered, 123/s, p50 20 p99 30 ms" in text
    assert "first seen 75.0 % right, 3 labels" in text
    assert "stable v3 80%, candidate v4 20%" in text
    assert "4 versions, 9 swaps, 2 drifts" in text


def test_a_line_before_anything_happened() -> None:
    empty = Progress(LoadCounts(0, 0, 0, 0), {}, {}, {}, {}, (), {})
    assert "0 of 0 answered, 0/s, p50 - p99 - ms" in progress_line(empty, ServiceSnapshot(), 0.0)
    assert "nothing published yet" in shown(progress_panel(STREAM, empty, ServiceSnapshot(), 0.0))


def test_the_panel_shows_each_stage_and_only_tests_that_are_over() -> None:
    lines = shown(progress_panel(STREAM, PROGRESS, SNAPSHOT, 10.0)).splitlines()
    (first,) = [text for text in lines if "first" in text and "2/2" in text]
    assert "50.0" in first
    # The test that is still running does not count.
    assert first.count("100.0") == 2
    assert any("on 50 holdout labels 90.0% right (before: 80.0%)" in text for text in lines)
    assert any("2 found, the last: classes 1-16 0.12 -> 0.50 at label 70" in text for text in lines)


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 1000)), min_size=1))
def test_a_rate_is_never_negative_and_forgets(steps: list[tuple[float, int]]) -> None:
    counts: list[tuple[float, int]] = []
    now_s = 0.0
    answered = 0
    for step_s, more in steps:
        now_s = now_s + step_s
        answered = answered + more
        assert update_rate(counts, answered, now_s) >= 0.0
    update_rate(counts, answered, now_s + 100.0)
    assert update_rate(counts, answered, now_s + 200.0) == 0.0


def test_a_rate_is_of_the_last_seconds() -> None:
    counts: list[tuple[float, int]] = []
    assert [update_rate(counts, answered, float(second)) for second, answered in enumerate((0, 10, 30, 60))] == [
        0,
        10,
        15,
        25,
    ]


@pytest.fixture
def see(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[Console], View]:
    monkeypatch.setattr(report, "LINE_EVERY_S", 0.01)
    return lambda console: View(console, STREAM, Ledger("run"), Watcher(store))


def test_without_a_terminal_there_are_plain_lines(see: Callable[[Console], View]) -> None:
    console = Console(file=io.StringIO(), width=40)
    with see(console):
        say(console, "a note of [more] than forty characters, in a line of its own")
        eventually(lambda: "answered" in read_text(console), within_s=5)
    lines = read_text(console).splitlines()
    assert "a note of [more] than forty characters, in a line of its own" in lines
    assert all("\x1b" not in each for each in lines)


def test_in_a_terminal_there_is_a_panel_below_the_notes(see: Callable[[Console], View]) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with see(console):
        say(console, "a note")
    assert "a note" in read_text(console)
    assert "at first sight" in read_text(console)
