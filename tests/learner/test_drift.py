"""A detector must not fire on streams that stay as they are, and must fire soon after a change."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from river.drift import ADWIN

from learner.config import LearnerConfig
from learner.drift import CLOCK, GROUP_SIZE, MAX_JOURNAL, RECENT_DRIFTS, Detector, DriftWatch
from learner.samples import Sample
from tests.learner.streams import sample

DELTA = LearnerConfig().drift_delta

ROWS = {"yes": 0}


def errors(rate: float, num: int, seed: int) -> list[float]:
    return [float(error) for error in np.random.default_rng(seed).random(num) < rate]


def distances(mean: float, num: int, seed: int) -> list[float]:
    """Draws distances like those of texts: normal, with a standard deviation of 0.12, clipped to [0, 2]."""
    return list(np.random.default_rng(seed).normal(mean, 0.12, num).clip(0, 2))


def fired(detector: Detector, values: list[float]) -> list[int]:
    """Returns the places at which drift was detected."""
    return [place for place, value in enumerate(values) if detector.add(value) is not None]


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2, 0.5])
def test_a_stationary_error_rate_is_no_drift(rate: float) -> None:
    """24 streams of 5,000 answers raise at most one false alarm in 120,000 answers."""
    alarms = [fired(Detector(DELTA), errors(rate, 5_000, seed)) for seed in range(24)]
    assert sum(map(len, alarms)) <= 1


def test_stationary_distances_are_no_drift() -> None:
    alarms = [fired(Detector(DELTA), distances(0.4, 5_000, seed)) for seed in range(24)]
    assert sum(map(len, alarms)) <= 1


@pytest.mark.parametrize(
    ("before", "after", "within"), [(0.05, 0.2, 400), (0.05, 0.3, 150), (0.05, 0.5, 60), (0.1, 0.9, 30)]
)
def test_a_risen_error_rate_is_found_soon(before: float, after: float, within: int) -> None:
    for seed in range(20):
        detector = Detector(DELTA)
        assert not fired(detector, errors(before, 700, seed))
        assert fired(detector, errors(after, within, 100 + seed))


@pytest.mark.parametrize(("shift", "within"), [(0.1, 200), (0.2, 60), (0.4, 30)])
def test_risen_distances_are_found_soon(shift: float, within: int) -> None:
    for seed in range(20):
        detector = Detector(DELTA)
        assert not fired(detector, distances(0.4, 700, seed))
        assert fired(detector, distances(0.4 + shift, within, 100 + seed))


def test_drift_is_found_at_the_same_places_every_time() -> None:
    detector = Detector(DELTA)
    values = errors(0.05, 700, 1) + errors(0.5, 700, 2) + errors(0.9, 700, 3)
    assert fired(detector, values) == [727, 1447]


def test_a_detector_is_the_adwin_of_the_library() -> None:
    """The detector runs the library's core; the class around it takes a second to load."""
    values = errors(0.1, 700, 1) + errors(0.5, 300, 2)
    (place,) = fired(Detector(DELTA), values)
    adwin = ADWIN(delta=DELTA, clock=CLOCK)
    assert next(at for at, value in enumerate(values) if adwin.update(value) or adwin.drift_detected) == place


def test_getting_better_is_no_drift() -> None:
    for seed in range(0, 60, 3):
        learning = errors(0.9, 500, seed) + errors(0.3, 500, seed + 1) + errors(0.02, 500, seed + 2)
        assert not fired(Detector(DELTA), learning)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1_500)), max_size=4), st.floats(0, 1), st.integers(0, 9))
def test_a_restored_detector_goes_on_as_the_first(stages: list[tuple[float, int]], rate: float, seed: int) -> None:
    first = Detector(DELTA)
    for mean, num in stages:
        fired(first, errors(mean, num, seed))
    restored = Detector(DELTA, first.journal)
    assert len(first.journal) < MAX_JOURNAL
    values = errors(rate, 2 * MAX_JOURNAL, seed + 1)
    assert [first.add(value) for value in values] == [restored.add(value) for value in values]


def answers(rate: float, num: int, label: str = "yes") -> list[Sample]:
    return [sample(label=label, is_correct=not error) for error in errors(rate, num, seed=5)]


def test_drift_says_what_has_risen_when_and_how_far() -> None:
    watch = DriftWatch(delta=DELTA)
    watch.add_answers(answers(0.0, 300), ROWS)
    assert watch.export().counts == {}
    watch.add_answers(answers(1.0, 40), ROWS)
    assert watch.is_urgent and watch.counts == {"drift_error": 1, "drift_classes": 1}
    error, classes = watch.recent
    assert (error.signal, classes.signal) == ("error", "classes 1-16")
    assert (error.at_label, classes.at_label) == (312, 312)
    assert (error.before, error.after) == (0.0, 1.0)


def test_a_few_classes_that_got_worse_are_found_where_the_mean_of_all_hides_them() -> None:
    watch = DriftWatch(delta=DELTA)
    rows = {f"class {row}": row for row in range(GROUP_SIZE)} | {"rare": GROUP_SIZE}
    common = answers(0.2, 3_000, "class 0")
    rare_before = answers(0.0, 60, "rare")
    rare_after = answers(1.0, 30, "rare")
    watch.add_answers(common + rare_before, rows)
    for number, each in enumerate(rare_after):
        watch.add_answers([*common[20 * number : 20 * number + 20], each], rows)
    assert [drift.signal for drift in watch.recent] == ["classes 17-32"]


def test_a_class_that_is_not_known_yet_belongs_to_no_group() -> None:
    watch = DriftWatch(delta=DELTA)
    watch.add_answers(answers(0.0, 5), {})
    assert watch.export().journals == {"error": [0.0] * 5}


def test_another_encoder_measures_other_distances() -> None:
    watch = DriftWatch(delta=DELTA)
    watch.add_texts(torch.tensor([0.1] * 500))
    watch.reset_distances()
    watch.add_texts(torch.tensor([0.5] * 500))
    assert watch.counts == {}
    watch.add_texts(torch.tensor([0.9] * 100))
    assert watch.counts == {"drift_distance": 1}


def test_no_significance_means_no_detection() -> None:
    watch = DriftWatch(delta=0.0)
    watch.add_answers(answers(0.0, 300) + answers(1.0, 300), ROWS)
    assert watch.counts == {} and not watch.export().journals


def test_a_restored_watch_is_the_one_that_was_exported() -> None:
    watch = DriftWatch(delta=DELTA)
    for rate in (0.0, 1.0) * (RECENT_DRIFTS + 1):
        watch.add_answers(answers(rate, 200), ROWS)
    state = watch.export()
    assert len(state.recent) == RECENT_DRIFTS
    assert state.counts["drift_error"] > RECENT_DRIFTS
    assert state.is_urgent
    assert DriftWatch(delta=DELTA, state=state).export() == state
