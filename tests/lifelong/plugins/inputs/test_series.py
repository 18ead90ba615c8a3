"""Lag features of a series: which features an event gets, from which events, and how many events are remembered."""

import threading
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.inputs.features import FEATURES, MAX_FEATURE_BYTES
from lifelong.plugins.inputs.series import LABEL_WAIT, Series, open_series
from serving.config import SeriesConfig
from wire.backoff import Backoff
from wire.config import TrustConfig
from wire.inputs import MAX_FEATURES, Features
from wire.label_set import LabelSet
from wire.records import Event, Feedback


def event(number: int, key: str = "meter 1", **features: float | str) -> Event:
    return event_with(number, features or {"x": float(number)}, key)


def event_with(number: int, features: Features, key: str = "meter 1") -> Event:
    return Event(id=f"{key}-{number}", key=key, source="plant", features=features)


def added_features(series: Series, *events: Event) -> list[Features]:
    """Returns the features that were added to each event."""
    return [added(before, after) for before, after in zip(events, series.join(events), strict=True)]


def added(before: Event, after: Event) -> Features:
    return {name: value for name, value in after.features.items() if name not in before.features}


def test_an_event_gets_the_features_of_earlier_events() -> None:
    series = Series(SeriesConfig(lags=(1, 3)))
    found = added_features(series, *[event(number, price=number / 2, region="north") for number in range(4)])
    assert found == [
        {},
        {"past:1:price": 0.0, "past:1:region": "north"},
        {"past:1:price": 0.5, "past:1:region": "north"},
        {"past:1:price": 1.0, "past:1:region": "north", "past:3:price": 0.0, "past:3:region": "north"},
    ]


def test_a_mean_is_over_the_earlier_events_that_have_the_number() -> None:
    series = Series(SeriesConfig(means=(2,)))
    found = added_features(series, event(0, x=1.0, city="a"), event(1, x=2.0), event(2, y=9.0), event(3), event(4))
    assert found == [
        {},
        {"past:mean2:x": 1.0},
        {"past:mean2:x": 1.5},
        {"past:mean2:x": 2.0, "past:mean2:y": 9.0},
        {"past:mean2:x": 3.0, "past:mean2:y": 9.0},
    ]


def test_keys_are_separate_and_an_event_without_a_key_has_no_past() -> None:
    series = Series(SeriesConfig(lags=(1,)))
    events = [event(0, "a"), event(1, "b"), event(2, "a"), event(3, ""), event(4, "")]
    assert added_features(series, *events) == [{}, {}, {"past:1:x": 0.0}, {}, {}]


def test_without_settings_events_do_not_change() -> None:
    events = [event(number) for number in range(3)]
    assert all(now is before for now, before in zip(Series(SeriesConfig()).join(events), events, strict=True))


def test_past_features_from_the_client_are_kept_and_do_not_become_past_features_again() -> None:
    series = Series(SeriesConfig(lags=(1,)))
    features: Features = {"x": 1.0, "past:1:x": 7.0}
    first, second, third = series.join([event(0), event_with(1, features), event(2)])
    assert second.features == features
    assert third.features == {"x": 2.0, "past:1:x": 1.0}
    assert first.features == {"x": 0.0}


def test_a_repeated_event_is_remembered_once() -> None:
    series = Series(SeriesConfig(lags=(1, 2)))
    events = [event(0), event(1), event(2)]
    first = series.join(events)
    again, after = series.join([events[2], event(3)])
    assert again == first[2]
    assert after.features == {"x": 3.0, "past:1:x": 2.0, "past:2:x": 1.0}


def test_labels_that_have_come_are_features_the_newest_event_first() -> None:
    series = Series(SeriesConfig(labels=2))
    events = [event(number) for number in range(4)]
    series.join(events[:2])
    series.add_label(Feedback(event_id=events[1].id, label="up"), "up")
    series.add_label(Feedback(event_id=events[0].id, label="down", event_source="plant"), "down")
    series.add_label(Feedback(event_id=events[0].id, label="up", event_source="another plant"), "up")
    series.add_label(Feedback(event_id="unheard of", label="up"), "up")
    assert added_features(series, events[2]) == [{"past:label:1": "up", "past:label:2": "down"}]
    series.add_label(Feedback(event_id=events[1].id, label="still"), "still")
    assert added_features(series, events[3]) == [{"past:label:1": "still", "past:label:2": "down"}]


def test_a_label_that_comes_too_late_is_dropped() -> None:
    series = Series(SeriesConfig(labels=1))
    series.join([event(number) for number in range(LABEL_WAIT + 2)])
    series.add_label(Feedback(event_id=event(0).id, label="up"), "up")
    assert added_features(series, event(LABEL_WAIT + 2)) == [{}]
    series.add_label(Feedback(event_id=event(9).id, label="up"), "up")
    assert added_features(series, event(LABEL_WAIT + 3)) == [{"past:label:1": "up"}]


def test_the_key_that_was_silent_for_the_longest_is_forgotten_first() -> None:
    series = Series(SeriesConfig(lags=(1,), max_values=1_300))
    wide: Features = {f"x{number}": 1.0 for number in range(300)}
    series.join([event_with(number, wide, key) for number, key in ((0, "a"), (0, "b"), (1, "a"), (0, "c"), (0, "d"))])
    assert [len(found) for found in added_features(series, event(2, "a"), event(1, "b"))] == [300, 0]


def test_an_event_gets_no_more_features_than_the_limit() -> None:
    series = Series(SeriesConfig(lags=(1, 2), means=(3,)))
    wide: Features = {f"{number:04}": 1.0 for number in range(MAX_FEATURES - 10)}
    long: Features = {"x" * MAX_FEATURE_BYTES: 1.0, "y": 1e308}
    many = [event_with(number, features) for number, features in enumerate((wide, wide, long, long))]
    joined = series.join([*many, event(4)])
    assert [FEATURES.problem(each.features) for each in joined] == [""] * 5
    assert len(joined[1].features) == MAX_FEATURES
    assert "past:1:y" in joined[3].features and "past:mean3:y" not in joined[4].features, "the sum is not finite"


def test_a_label_that_is_not_a_valid_category_is_left_out() -> None:
    """N13: learner and judge refused every later answer of the key as `wrong_schema`."""
    series = Series(SeriesConfig(labels=2))
    series.join([event(0), event(1)])
    series.add_label(Feedback(event_id=event(0).id, label="x"), "up")
    series.add_label(Feedback(event_id=event(1).id, label="x"), "\u00e4" * MAX_FEATURE_BYTES)
    (after,) = series.join([event(2)])
    assert FEATURES.problem(after.features) == ""
    assert after.features == {"x": 2.0, "past:label:2": "up"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=40))
def test_past_features_depend_only_on_the_events_of_the_key(sent: list[tuple[str, int]]) -> None:
    events = [event(number, key, x=float(value)) for number, (key, value) in enumerate(sent)]
    config = SeriesConfig(lags=(1, 2), means=(3,))
    together = Series(config).join(events)
    for key in "abc":
        alone = Series(config).join([each for each in events if each.key == key])
        assert alone == [each for each in together if each.key == key]


def test_events_from_many_threads_are_all_remembered() -> None:
    series = Series(SeriesConfig(lags=(1,)))

    def send(key: str) -> None:
        series.join([event(number, key) for number in range(200)])

    threads = [threading.Thread(target=send, args=(f"{key}",)) for key in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert added_features(series, *[event(200, f"{key}") for key in range(4)]) == [{"past:1:x": 199.0}] * 4


def test_a_replica_has_a_series_and_a_reader_of_labels_only_if_its_settings_need_them() -> None:
    def replica(series: SeriesConfig) -> Any:
        settings = SimpleNamespace(series=series)
        backoff = Backoff(first_s=0.05, longest_s=0.1)
        return SimpleNamespace(
            settings=settings, bus=None, receipts=None, labels=LabelSet, trust=TrustConfig(), backoff=backoff
        )

    assert FEATURES.enricher(replica(SeriesConfig())) is None
    for labels in (0, 2):
        opened = FEATURES.enricher(replica(SeriesConfig(lags=(1,), labels=labels)))
        assert isinstance(opened, Series) and (opened.reader is not None) is bool(labels)
    assert open_series(replica(SeriesConfig(labels=1))).reader is not None
