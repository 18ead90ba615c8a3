"""Numbers and categories through the whole flow of `test_in_memory`: event, answer, label, version, swap, rollout.

The scales of numbers are part of the version: the replica has them of the store alone.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from model.features import SCALES
from tests.flow.test_in_memory import Service, share_right
from wire.features import Features
from wire.records import Event
from wire.store import Store

NUM_EVENTS = 60


def features_of(number: int) -> Features:
    """A station and its air pressure in hPa, of which every station has another mean."""
    station = ("coast", "peak")[number // 2 % 2]
    low, mean = number % 2, {"coast": 1_010.0, "peak": 640.0}[station]
    return {"station": station, "pressure": mean - 20.0 * low + number * 7 % 9, "humidity": number * 3 % 100}


def labels_of(count: int) -> list[str]:
    return ["rain" if number % 2 else "dry" for number in range(count)]


def events(name: str) -> list[Event]:
    return [Event(id=f"{name}-{number}", features=features_of(number)) for number in range(NUM_EVENTS)]


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    started = Service(store, tmp_path)
    started.start()
    yield started
    started.close()


def test_an_event_of_numbers_is_answered_by_the_version_that_has_learnt_them(service: Service, store: Store) -> None:
    labels = labels_of(NUM_EVENTS)
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
