"""Tests that quarantined labels are found, and released as approved labels."""

import msgspec
import pytest

from services.quarantine import LabelFilter, quarantined_labels, release
from tests.brokers import take
from wire.bus import Bus
from wire.receipts import Receipts
from wire.records import Feedback, Quarantined

RECEIPTS = Receipts(b"a key for tests")


def quarantined(event_id: str, *, reason: str = "flip", source: str = "desk") -> Quarantined:
    return Quarantined(
        reason=reason, event_id=event_id, label="refund", source=source, time_ms=7, text="a text", answered="delivery"
    )


LABELS = (
    quarantined("a"),
    quarantined("b", reason="forged"),
    msgspec.structs.replace(quarantined("c", source="bot"), event_source="crm"),
)


@pytest.mark.parametrize(
    ("chosen", "event_ids"),
    [
        (LabelFilter(), "abc"),
        (LabelFilter(event_ids=("a", "b")), "ab"),
        (LabelFilter(reason="flip"), "ac"),
        (LabelFilter(reason="flip", source="desk"), "a"),
    ],
)
def test_labels_are_wanted_by_event_reason_and_source(chosen: LabelFilter, event_ids: str) -> None:
    assert "".join(label.event_id for label in LABELS if chosen.matches(label)) == event_ids
    assert chosen.is_all == (event_ids == "abc")


def test_a_label_that_names_no_event_source_is_sent_as_one_of_the_source_that_is_given() -> None:
    """B5: an ambiguous label is released for one event; a label that names another source is not selected."""
    unknown = quarantined("a", reason="ambiguous")
    crm = msgspec.structs.replace(LABELS[0], event_source="crm")
    assert [LabelFilter(event_source=source).matches(crm) for source in (None, "crm", "http")] == [True, True, False]
    of_http = LabelFilter(event_source="http")
    assert of_http.matches(unknown)
    assert of_http.is_all
    assert of_http.feedback_of(unknown).event_source == "http"
    assert LabelFilter().feedback_of(crm).event_source == "crm"
    assert LabelFilter().feedback_of(unknown).event_source is None


@pytest.mark.live
def test_a_released_label_comes_back_approved(bus: Bus) -> None:
    publisher = bus.publisher()
    for label in (*LABELS, LABELS[0]):
        publisher.send(label)
    publisher.flush(10)
    assert sorted(label.event_id for label in quarantined_labels(bus, LabelFilter())) == ["a", "b", "c"]
    assert release(bus, RECEIPTS, LabelFilter(source="bot")) == [LABELS[2]]
    (received,) = take(bus.follow([Feedback], {}).poll, 1)
    assert received.record == RECEIPTS.approved(LABELS[2].feedback)
    assert RECEIPTS.refusal(received.record, is_required=True, max_age_ms=0) == ""
