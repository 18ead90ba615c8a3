"""The instant oracle, on streams whose accuracies can be worked out by hand."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evals.load.oracle import AskedEvent, PrequentialFigures, replay

DIRECTIONS = {"red": (1.0, 0.0), "green": (0.0, 1.0), "blue": (-1.0, 0.0), "teal": (0.6, 0.8)}


def encode(texts: Sequence[str]) -> Tensor:
    """Maps a text to the direction of its first word."""
    return torch.tensor([DIRECTIONS[text.split()[0]] for text in texts]).reshape(-1, 2)


def asked(
    label: str, sent_ms: int, label_ms: int | None, *, stage: int = 0, is_right: bool = False, text: str = ""
) -> AskedEvent:
    return AskedEvent(text if text else f"{label} {sent_ms}", label, stage, sent_ms, label_ms, is_right)


def compute_figures(events: Sequence[AskedEvent], num_stages: int = 1) -> PrequentialFigures:
    return replay(events, encode).figures(num_stages, encoder="made")


def test_the_oracle_knows_a_label_once_it_is_written() -> None:
    events = [asked("red", 0, 100), asked("red", 100, 200), asked("red", 101, 300)]
    replayed = replay(events, encode)
    # A label that is written at the time of an event is not known to the event.
    assert replayed.right_NV[:, 1].tolist() == [False, False, True]


def test_labels_are_learnt_in_the_order_in_which_they_come() -> None:
    events = [
        asked("red", 0, 900),
        asked("green", 10, 20),
        asked("red", 30, 40, text="teal"),
        asked("green", 50, 60),
        asked("red", 1_000, 1_100),
    ]
    right = replay(events[::-1], encode).right_NV[:, 1].tolist()
    assert right == [False, False, False, True, True]
    assert replay(events, encode).events == sorted(events, key=lambda event: event.sent_ms)


def test_unanswered_events_are_wrong_and_unlabelled_events_are_left_out() -> None:
    events = [
        asked("red", 0, 5, is_right=True),
        asked("red", 10, 20),
        asked("red", 30, None, is_right=True),
        asked("red", 40, 50, is_right=True),
    ]
    figures = compute_figures(events)
    assert figures.events == 3
    assert (figures.as_given, figures.oracle) == (66.67, 66.67)
    assert figures.ratio == 1.0


def test_without_learning_only_the_labels_of_the_first_tenth_are_known() -> None:
    events = [asked("red", 10 * number, 10 * number + 1) for number in range(10)]
    events += [asked("blue", 10 * number, 10 * number + 1, stage=1) for number in range(10, 20)]
    figures = compute_figures(events, num_stages=2)
    assert figures.by_stage[0] == (0.0, 90.0, 90.0)
    assert figures.by_stage[1] == (0.0, 90.0, 0.0)
    assert (figures.oracle, figures.without_learning, figures.encoder) == (90.0, 45.0, "made")


def test_the_interval_of_the_ratio_is_over_the_stages() -> None:
    events: list[AskedEvent] = []
    for stage in range(8):
        for number in range(10):
            sent_ms = 1_000 * stage + number
            events.append(asked("red", sent_ms, sent_ms, stage=stage, is_right=stage < 4))
    figures = compute_figures(events, num_stages=8)
    assert figures.ratio == pytest.approx(40 / 79, abs=1e-4)
    assert figures.ratio_low is not None
    assert figures.ratio_high is not None
    assert figures.ratio_low < 0.3
    assert figures.ratio_high > 0.7
    assert figures == compute_figures(events, num_stages=8)


def test_without_a_label_there_is_no_ratio() -> None:
    for events in ([], [asked("red", 0, None)]):
        figures = compute_figures(events)
        assert (figures.events, figures.oracle, figures.ratio, figures.ratio_low) == (0, 0.0, None, None)


@given(st.lists(st.tuples(st.sampled_from(sorted(DIRECTIONS)), st.integers(0, 50)), max_size=30))
def test_a_class_is_right_once_it_is_known(pairs: list[tuple[str, int]]) -> None:
    """If the texts of a class are equal, the oracle is right exactly if a label of the class came before."""
    events = [asked(label, 10 * number, 10 * number + delay) for number, (label, delay) in enumerate(pairs)]
    right = replay(events, encode).right_NV[:, 1].tolist()
    for event, is_right in zip(events, right, strict=True):
        times = [other.label_ms for other in events if other.label == event.label and other.label_ms is not None]
        assert is_right == any(time_ms < event.sent_ms for time_ms in times)


def test_curves_have_the_times_of_the_events() -> None:
    events = [asked("red", 5_000 + 1_000 * number, 5_001 + 1_000 * number) for number in range(3)]
    curves = replay(events, encode).curves(5_000)
    assert [(point.second, point.right) for point in curves["oracle"]] == [(0.0, 0), (1.0, 1), (2.0, 1)]
    assert sum(point.answered for point in curves["without learning"]) == 3
