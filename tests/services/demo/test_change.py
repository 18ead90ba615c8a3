"""Tests a change of profile without a whole run: the offer is made after a fraction of the events was sent."""

from pathlib import Path

import pytest

from evals.load.ledger import Ledger
from evals.load.mixed import Recomputed
from evals.streams.stream import StreamItem
from services.demo import change as changes
from services.demo.change import Change, ProfileChange
from services.profiles.profile import NANO
from services.settings import load
from tests.services.members.small import write_small
from wire.records import CommandOutcome
from wire.store import Store

FOUND = Recomputed(answers=30, mixed=0, gone=0, encoders=(20, 10))


def test_the_line_says_what_was_lost_and_mixed() -> None:
    outcome = CommandOutcome(seq=1, state="published", time_ms=1, version=3)
    line = Change(profile="nano", outcome=outcome, recomputed=FOUND).line
    assert line == "change to profile nano: published; 20 and 10 answers by one encoder after another, 0 of 30 mixed"
    assert "not decided" in Change(profile="nano", outcome=None, recomputed=FOUND).line


@pytest.mark.live
def test_the_encoder_is_offered_when_its_share_of_the_events_was_sent(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "DECIDES_WITHIN_S", 0.1)
    source = write_small(tmp_path / "small")
    environ = {"LIFELONG_STATE_DIR": str(tmp_path), "LIFELONG_ENCODER": source}
    settings = load(file=None, environ=environ).settings
    said: list[str] = []
    ledger = Ledger("run")
    change = ProfileChange(
        NANO, source, store, settings=settings, num_events=round(2 / changes.OFFERED_AFTER), say=said.append
    )
    with change.during(ledger):
        ledger.record_event(StreamItem("please play", "music"), stage=0, time_ms=1)
        assert store.commands.open_offer() is None
        ledger.record_event(StreamItem("rain today", "weather"), stage=0, time_ms=2)
        while not said:
            ledger.wait(lambda counts: False, 0.05)
    offer = store.commands.open_offer()
    assert offer is not None and offer.max_loss == changes.MAX_LOSS
    assert "no learner has seen it" in said[-1]
