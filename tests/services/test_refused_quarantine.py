"""Tests that quarantined labels are found, and released as approved labels."""

import msgspec
import pytest

from rollout.plans import NotPossible
from services.refused import LabelFilter, quarantine_id, quarantined_labels, release
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
        (LabelFilter(ids=tuple(quarantine_id(label) for label in LABELS[1:])), "bc"),
        (LabelFilter(reason="flip"), "ac"),
        (LabelFilter(reason="flip", source="desk"), "a"),
    ],
)
def test_labels_are_wanted_by_id_event_reason_and_source(chosen: LabelFilter, event_ids: str) -> None:
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
    assert of_http.to_feedback(unknown).event_source == "http"
    assert LabelFilter().to_feedback(crm).event_source == "crm"
    assert LabelFilter().to_feedback(unknown).event_source is None


def test_the_id_tells_apart_all_that_an_approval_depends_on() -> None:
    label = quarantined("a")
    others = [
        quarantined("b"),
        quarantined("a", reason="over_rate"),
        quarantined("a", source="bot"),
        *(
            msgspec.structs.replace(label, **changed)
            for changed in ({"label": "delivery"}, {"time_ms": 8}, {"event_source": "crm"}, {"task": "urgency"})
        ),
    ]
    assert len({quarantine_id(each) for each in (label, *others)}) == 1 + len(others)


@pytest.mark.live
def test_a_released_label_comes_back_approved(bus: Bus) -> None:
    bus.publisher().send_all([*LABELS, LABELS[0]], 10)
    assert sorted(label.event_id for label in quarantined_labels(bus, LabelFilter())) == ["a", "b", "c"]
    assert release(bus, RECEIPTS, LabelFilter(source="bot")).sent == (LABELS[2],)
    (received,) = take(bus.follow([Feedback], {}).poll, 1)
    assert received.record == RECEIPTS.approved(LABELS[2].feedback)
    assert RECEIPTS.refusal(received.record, is_required=True, max_age_ms=0) == ""


@pytest.mark.live
def test_an_attackers_label_is_not_released_with_that_of_the_desk(bus: Bus) -> None:
    """N4: an attacker who may send labels adds one to the event, and waits for the operator to release it."""
    desk = quarantined("ticket 7")
    evil = msgspec.structs.replace(desk, label="delivery", source="attacker", time_ms=8)
    unproven = msgspec.structs.replace(evil, reason="missing")
    bus.publisher().send_all([desk, evil, unproven], 10)
    for wide in (
        LabelFilter(),
        LabelFilter(reason="flip"),
        LabelFilter(ids=(quarantine_id(desk), quarantine_id(evil))),
    ):
        with pytest.raises(
            NotPossible, match=f"2 labels are for the event 'ticket 7': {quarantine_id(desk)}, {quarantine_id(evil)}"
        ):
            release(bus, RECEIPTS, wide)
    refused = release(bus, RECEIPTS, LabelFilter(ids=(quarantine_id(unproven),)))
    assert (refused.sent, refused.unproven) == ((), {"missing": 1})
    assert list(refused.lines())[1].endswith("add --reason missing")
    assert release(bus, RECEIPTS, LabelFilter(ids=(quarantine_id(desk),))).sent == (desk,)
    (received,) = take(bus.follow([Feedback], {}).poll, 1)
    assert (received.record.label, received.record.source) == ("refund", "desk")
    with_reason = release(bus, RECEIPTS, LabelFilter(ids=(quarantine_id(unproven),), reason="missing"))
    assert with_reason.sent == (unproven,)


@pytest.mark.live
def test_events_of_two_sources_are_two_events_and_one_without_a_source_may_be_either(bus: Bus) -> None:
    of_crm = msgspec.structs.replace(quarantined("1"), event_source="crm")
    of_http = msgspec.structs.replace(of_crm, event_source="http")
    bus.publisher().send_all([of_crm, of_http], 10)
    assert release(bus, RECEIPTS, LabelFilter(source="desk")).sent == (of_crm, of_http)
    bus.publisher().send_all([quarantined("1", reason="ambiguous")], 10)
    with pytest.raises(NotPossible, match="3 labels are for the event '1'"):
        release(bus, RECEIPTS, LabelFilter(source="desk"))


@pytest.mark.live
def test_an_unknown_id_releases_nothing(bus: Bus) -> None:
    bus.publisher().send_all([LABELS[0]], 10)
    with pytest.raises(NotPossible, match="no such label lies in quarantine: 0123"):
        release(bus, RECEIPTS, LabelFilter(ids=(quarantine_id(LABELS[0]), "0123")))
