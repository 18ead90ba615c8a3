"""Labels from a real broker become features of the series of their key, if they are trusted."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest

from lifelong.plugins.inputs.series import Series, SeriesLabels
from serving.config import SeriesConfig
from serving.errors import Unhealthy
from tests.serving.versions import RECEIPTS
from tests.waiting import eventually, in_time
from wire.backoff import Backoff
from wire.bus import Bus
from wire.config import BusConfig, LabelConfig, TrustConfig
from wire.label_set import LabelSet
from wire.receipts import Verdicts
from wire.records import Event, Feedback, LabelCommand
from wire.timestamps import now_ms

pytestmark = pytest.mark.live

BACKOFF = Backoff(first_s=0.05, longest_s=0.1)
RENAMED = LabelCommand(number=1, action="rename", labels=("fall",), to=("down",))


def labels() -> LabelSet:
    return LabelSet(LabelConfig(mode="listed", allow=("up", "fall"))).after(RENAMED)


@pytest.fixture
def series() -> Series:
    return Series(SeriesConfig(labels=1))


@pytest.fixture
def reader(bus: Bus, series: Series) -> Iterator[SeriesLabels]:
    started = SeriesLabels(bus, series, RECEIPTS, labels, trust=TrustConfig(), backoff=BACKOFF)
    started.start()
    yield started
    started.close()


@pytest.fixture
def say(bus: Bus) -> Iterator[Callable[[str, str, str], None]]:
    """Sends the label of an event of the meter."""
    with closing(bus.publisher()) as publisher:

        def send(event_id: str, label: str, receipt: str = "") -> None:
            publisher.send_all([Feedback(event_id=event_id, label=label, key="meter", receipt=receipt)], 10.0)

        yield send


def last_label(series: Series, event_id: str) -> object:
    """Returns the label among the features of an event. It may be called again: the event is remembered once."""
    (event,) = series.join([Event(id=event_id, key="meter", features={"x": 1.0})])
    return event.features.get("past:label:1")


def test_a_label_is_a_feature_of_the_next_event(
    reader: SeriesLabels, series: Series, say: Callable[[str, str, str], None]
) -> None:
    """The label is sent until it is read, because the first ones may come before the reader knows the topic's ends."""
    last_label(series, "e1")

    def is_told() -> bool:
        say("e1", "up", "")
        return last_label(series, "e2") == "up"

    eventually(is_told)
    reader.check(Unhealthy)
    receipt = RECEIPTS.of("e2", time_ms=1, entity="meter", verdicts=Verdicts("stable", 1, ()))
    last_label(series, "e3")
    say("e3", "down", "1.forged")
    say("e3", "sideways", "")
    say("e2", "fall", receipt)
    eventually(lambda: last_label(series, "e3") == "down")
    assert last_label(series, "e4") == "down", "neither the forged label of e3 nor the one outside the list counts"


def test_a_label_that_the_learner_would_refuse_is_not_a_feature(
    bus: Bus, series: Series, say: Callable[[str, str, str], None]
) -> None:
    """N19: a client that sent a label without a receipt could set a feature of other clients' events."""
    trust = TrustConfig(require_receipts=True, source_labels_per_s=1e-6, source_burst=1)
    reader = SeriesLabels(bus, series, RECEIPTS, labels, trust=trust, backoff=BACKOFF)
    reader.start()
    now = now_ms()
    make_receipt = {
        name: RECEIPTS.of(name, time_ms=now, entity="meter", verdicts=Verdicts("stable", 1, ()))
        for name in ("e1", "e2")
    }
    for name in ("e0", "e1", "e2"):
        last_label(series, name)

    def is_told() -> bool:
        say("e0", "up", "")
        say("e1", "fall", make_receipt["e1"])
        return last_label(series, "e3") == "down"

    eventually(is_told)
    say("e2", "up", make_receipt["e2"])
    assert not in_time(lambda: last_label(series, "e3") != "down", within_s=0.5), "the source has had its one label"
    reader.close()


def test_no_labels_are_read_if_they_are_not_features(bus: Bus) -> None:
    idle = SeriesLabels(bus, Series(SeriesConfig(lags=(1,))), RECEIPTS, labels, trust=TrustConfig(), backoff=BACKOFF)
    idle.start()
    idle.check(Unhealthy)
    idle.close()


def test_an_unreachable_broker_is_tried_again() -> None:
    nowhere = BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 200})
    with closing(Bus(nowhere, client_id="test")) as bus:
        reader = SeriesLabels(
            bus, Series(SeriesConfig(labels=1)), RECEIPTS, labels, trust=TrustConfig(), backoff=BACKOFF
        )
        reader.start()
        assert not in_time(partial(_has_ended, reader), within_s=1.0)
        reader.close()
        assert _has_ended(reader)


def _has_ended(reader: SeriesLabels) -> bool:
    try:
        reader.check(Unhealthy)
    except Unhealthy:
        return True
    return False
