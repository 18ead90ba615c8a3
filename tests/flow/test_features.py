"""Numbers and categories through the whole flow of `test_in_memory`: event, answer, label, version, swap, rollout.

The scales of numbers are part of the version: the replica has them of the store alone.
"""

from dataclasses import replace

import msgspec

from lifelong.plugins.inputs.feature_tensors import SCALES
from lifelong.plugins.inputs.series import Series
from serving.config import SeriesConfig
from tests.flow import test_in_memory
from tests.flow.test_in_memory import Service, share_right
from wire.events import content
from wire.inputs import Features, sent
from wire.records import Event
from wire.store import Store

NUM_EVENTS = 60


def make_features(number: int) -> Features:
    """A station and its air pressure in hPa, of which every station has another mean."""
    station = ("coast", "peak")[number // 2 % 2]
    low, mean = number % 2, {"coast": 1_010.0, "peak": 640.0}[station]
    return {"station": station, "pressure": mean - 20.0 * low + number * 7 % 9, "humidity": number * 3 % 100}


def make_labels(count: int) -> list[str]:
    return ["rain" if number % 2 else "dry" for number in range(count)]


def events(name: str) -> list[Event]:
    return [Event(id=f"{name}-{number}", features=make_features(number)) for number in range(NUM_EVENTS)]


service = test_in_memory.service


def test_an_event_of_numbers_is_answered_by_the_version_that_has_learnt_them(service: Service, store: Store) -> None:
    labels = make_labels(NUM_EVENTS)
    service.publish()
    before = service.answer(events("first"))
    assert [answer.features for answer in before] == [event.features for event in events("first")]
    service.label(before, labels)
    service.learner.learner.tick()
    assert service.publish() == 2
    manifest = store.versions.manifest(2)
    assert SCALES in {entry.name for entry in manifest.tensors} and manifest.lineage.gap == ""
    compared = service.answer(events("second"))  # other scales are another encoder: labels decide
    service.label(compared, labels)
    service.await_swap()
    after = service.answer(events("third"))
    assert {(answer.weights_version, answer.arm) for answer in after} == {(2, "stable")}
    assert share_right(after, labels) >= 0.9


def test_a_label_is_that_of_the_features_as_they_were_answered(service: Service) -> None:
    """An answer to the same id with other features is that of another event, whose label is not taken for it."""
    service.publish()
    (answer,) = service.answer(events("first")[:1])
    other = msgspec.structs.replace(answer, features={"pressure": 1.0}, time_ms=answer.time_ms + 1)
    service.label([answer, other], ["dry", "rain"])
    assert service.learner.learner.counts["learnt"] + service.learner.learner.counts["holdout"] <= 1


def test_what_hangs_on_the_event_before_is_learnt_from_the_series_of_its_key(service: Service) -> None:
    """The label says whether the level of the event before was high, and the level is another one by chance."""
    service.pipeline = replace(service.pipeline, enrichers=[Series(SeriesConfig(lags=(1,)))])
    levels = [float(number * 7 % 10) for number in range(3 * NUM_EVENTS)]
    series = [Event(id=f"e-{number}", key="tank", features={"level": level}) for number, level in enumerate(levels)]
    labels = ["low", *("high" if level >= 5 else "low" for level in levels)]
    service.publish()
    for first in (0, NUM_EVENTS):
        answers = service.answer(series[first : first + NUM_EVENTS])
        service.label(answers, labels[first : first + NUM_EVENTS])
        service.learner.learner.tick()
        service.publish()
    after = service.answer(series[2 * NUM_EVENTS :])
    assert after[0].features == {"level": levels[2 * NUM_EVENTS], "past:1:level": levels[2 * NUM_EVENTS - 1]}
    service.await_swap()
    assert share_right(service.answer(series[2 * NUM_EVENTS :]), labels[2 * NUM_EVENTS : 3 * NUM_EVENTS]) >= 0.9


def test_an_event_is_one_event_whatever_it_takes_over_when_it_is_answered_again(service: Service) -> None:
    """A replica that has started anew has forgotten the series: the label is learnt once, as the first was answered."""
    service.publish()
    (answer,) = service.answer(events("first")[:1])
    first = msgspec.structs.replace(answer, features=answer.features | {"past:1:pressure": 7.0})
    assert sent(content(first)) == content(answer)
    service.label([first, msgspec.structs.replace(answer, time_ms=answer.time_ms + 1)], ["dry", "dry"])
    learner = service.learner.learner
    assert learner.join.counts["answers_repeated"] == 1
    assert learner.counts["learnt"] + learner.counts["holdout"] == 1
