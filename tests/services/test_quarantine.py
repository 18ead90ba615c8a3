"""What lies in quarantine is found, and comes back as a label that an operator vouches for."""

import pytest

from services.quarantine import Wanted, found, release
from tests.brokers import take
from wire.bus import Bus
from wire.receipts import Receipts
from wire.records import Feedback, Quarantined

RECEIPTS = Receipts(b"a key for tests")


def quarantined(event_id: str, *, reason: str = "flip", source: str = "desk") -> Quarantined:
    return Quarantined(
        reason=reason, event_id=event_id, label="refund", source=source, time_ms=7, text="a text", answered="delivery"
    )


LABELS = (quarantined("a"), quarantined("b", reason="forged"), quarantined("c", source="bot"))


@pytest.mark.parametrize(
    ("wanted", "event_ids"),
    [
        (Wanted(), "abc"),
        (Wanted(event_ids=("a", "b")), "ab"),
        (Wanted(reason="flip"), "ac"),
        (Wanted(reason="flip", source="desk"), "a"),
    ],
)
def test_labels_are_wanted_by_event_reason_and_source(wanted: Wanted, event_ids: str) -> None:
    assert "".join(label.event_id for label in LABELS if wanted.has(label)) == event_ids
    assert wanted.is_all == (event_ids == "abc")


@pytest.mark.live
def test_a_released_label_comes_back_approved(bus: Bus) -> None:
    publisher = bus.publisher()
    for label in (*LABELS, LABELS[0]):
        publisher.send(label)
    publisher.flush(10)
    assert sorted(label.event_id for label in found(bus, Wanted())) == ["a", "b", "c"]
    assert release(bus, RECEIPTS, Wanted(source="bot")) == [LABELS[2]]
    (received,) = take(bus.follow([Feedback], {}).poll, 1)
    assert received.record == RECEIPTS.approved(LABELS[2].feedback)
    assert RECEIPTS.refusal(received.record, is_required=True, max_age_ms=0) == ""
