"""A fixed share of the events asks for a label, by their ids alone."""

import pytest

from serving.audit import audited
from tests.rollout.joined import answer
from wire.records import Answer
from wire.rollout import is_audited


def predict(ids: list[str], version: int) -> list[Answer]:
    return [answer(event_id, version=version) for event_id in ids]


IDS = [f"event-{number}" for number in range(4_000)]


def audited_events(version: int) -> list[str]:
    """Returns the events whose labels are asked for."""
    return [each.event_id for each in audited(predict, 0.01)(IDS, version) if each.audit]


def test_a_share_of_the_events_asks_for_a_label_whichever_version_answers() -> None:
    assert audited_events(1) == audited_events(2) == [event_id for event_id in IDS if is_audited(event_id, 0.01)]
    assert len(audited_events(1)) == pytest.approx(40, abs=20)


def test_without_a_share_nothing_is_asked_for() -> None:
    assert audited(predict, 0.0) is predict
