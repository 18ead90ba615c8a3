"""Tests the import of labelled history: all lines or none, approved, and the same whenever it is sent."""

from pathlib import Path

import pytest

from services.history import BadHistory, labelled, send
from tests.brokers import take
from tests.learner.labels.joins import make_join, make_trust
from wire.bus import Bus
from wire.label_set import LabelSet
from wire.receipts import Receipts
from wire.records import Feedback

RECEIPTS = Receipts(b"a key for tests")

LINES = """{"text": "where is my parcel", "label": "delivery"}

{"text": "I want my money", "label": "refund", "id": "e-17", "source": "crm", "key": "customer-7", "time_ms": 5}
"""


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_text(LINES)
    return path


def test_a_line_becomes_a_label_with_its_text(history: Path) -> None:
    first, second = labelled(history, LabelSet(), source="desk")
    assert (first.text, first.label, first.event_source, first.source) == (
        "where is my parcel",
        "delivery",
        "history",
        "desk",
    )
    assert (second.event_id, second.event_source, second.key, second.time_ms) == ("e-17", "crm", "customer-7", 5)


def test_a_line_has_the_same_id_whenever_it_is_sent(history: Path) -> None:
    join = make_join()
    assert len(join.match(labelled(history, LabelSet(), source="desk"))) == 2
    assert join.match(labelled(history, LabelSet(), source="desk")) == []
    assert join.counts["duplicate"] == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "truncated"),
        ('{"text": "t"}', "label"),
        ('{"text": " ", "label": "l"}', "must not be blank"),
        ('{"text": "t", "label": "l", "stage": "s"}', "stage"),
        ('{"text": 5, "label": "l"}', "text"),
    ],
)
def test_a_bad_line_is_named(line: str, why: str, history: Path) -> None:
    history.write_text(LINES + line)
    with pytest.raises(BadHistory, match=f"line 4: .*{why}"):
        list(labelled(history, LabelSet(), source="desk"))


@pytest.mark.live
def test_history_reaches_the_learner_approved_or_not_at_all(bus: Bus, history: Path) -> None:
    assert send(bus, RECEIPTS, history, LabelSet(), source="desk") == 2
    received = [item.record for item in take(bus.follow([Feedback], {}).poll, 2)]
    join = make_join(trust=make_trust(require_receipts=True))
    assert sorted(sample.text for sample in join.match(received)) == ["I want my money", "where is my parcel"]
    history.write_text(LINES + "{")
    with pytest.raises(BadHistory):
        send(bus, RECEIPTS, history, LabelSet(), source="desk")
    ends = bus.end_offsets(Feedback)
    assert sum(ends.values()) == 2
