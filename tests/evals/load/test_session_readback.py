"""The audit of the answers topic."""

import pytest

from evals.load.ledger import Ledger
from evals.load.session import read_back
from evals.streams.stream import StreamItem
from wire.bus import Bus
from wire.records import Answer, DeadLetter

pytestmark = pytest.mark.live


def answer_to(event_id: str) -> Answer:
    return Answer(
        event_id=event_id,
        text="a",
        label="x",
        score=1.0,
        weights_version=1,
        arm="stable",
        precision="int8",
        rollout_revision=1,
    )


def test_what_is_missing_or_doubled_is_counted_and_what_is_not_ours_is_not(bus: Bus) -> None:
    ledger = Ledger("run")
    ids = [ledger.record_event(StreamItem("a", "x"), stage=0, time_ms=0) for _ in range(4)]
    letter = DeadLetter(reason="oversized", detail="", topic="events.v1", partition=0, offset=0, payload=b"")
    answers = [answer_to(event_id) for event_id in (*ids[:3], ids[0], "of another run")]
    bus.publisher().send_all([*answers, letter], 30.0)
    found = read_back(bus, ledger)
    assert (found.audit.found, found.audit.lost, found.audit.duplicates) == (3, 1, 1)
    assert found.dead_letters == 1
