"""A fixed share of the events asks for a label, by their ids alone."""

import pytest

from serving.filters import Audit, build_filters
from tests.rollout.joined import answer
from tests.serving.versions import RECEIPTS
from wire.draws import AUDIT, is_drawn
from wire.receipts import Receipts

IDS = [f"event-{number}" for number in range(4_000)]


def audited_events(version: int) -> list[str]:
    """Returns the events whose labels are asked for."""
    audit = Audit(0.01, RECEIPTS)
    answers = [audit.apply(answer(event_id, version=version), queued_s=0.0, took_s=0.0) for event_id in IDS]
    return [each.event_id for each in answers if each.audit]


def drawn_by(receipts: Receipts) -> list[str]:
    """Returns what the rollout draws with the same keys."""
    return [event_id for event_id in IDS if is_drawn(receipts.draws, AUDIT, event_id, 0.01)]


def test_a_share_of_the_events_asks_for_a_label_whichever_version_answers() -> None:
    assert audited_events(1) == audited_events(2) == drawn_by(RECEIPTS)
    assert len(audited_events(1)) == pytest.approx(40, abs=20)


def test_without_a_share_nothing_is_asked_for() -> None:
    assert build_filters(0.0, RECEIPTS) == []
    assert [type(each) for each in build_filters(0.01, RECEIPTS)] == [Audit]


def test_nobody_without_the_keys_can_tell_which_events_are_asked_for() -> None:
    """N7: the draw was by a salt in the source code, and senders choose ids."""
    others = drawn_by(Receipts(b"other keys"))
    assert len(set(others) & set(drawn_by(RECEIPTS))) < 0.2 * len(others)
