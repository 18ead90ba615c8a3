"""Events that get no answer are given up, and the run goes on."""

from contextlib import closing

import pytest

from evals.load.ledger import Ledger
from evals.load.outbox import LoadOutbox
from evals.load.player import SOURCE, Callbacks, Player, Timeouts
from evals.load.watcher import Watcher
from evals.streams.stream import Arrival, StreamItem
from tests.brokers import take
from wire.bus import Bus
from wire.records import Event
from wire.store import Store

pytestmark = pytest.mark.live

ITEM = StreamItem("where is my parcel", "delivery")


def player(bus: Bus, store: Store, ledger: Ledger, lines: list[str]) -> Player:
    callbacks = Callbacks(began_ms=0, now_ms=lambda: 50, say=lines.append, check=lambda: None)
    timeouts = Timeouts(answer_s=0.05, poll_interval_s=0.01)
    return Player(ledger, Watcher(store), LoadOutbox(bus.publisher()), callbacks, timeouts=timeouts, seed=0)


def test_each_event_carries_the_time_at_which_it_was_due(bus: Bus, store: Store) -> None:
    lines: list[str] = []
    player(bus, store, Ledger("run"), lines).play("first", [Arrival(ITEM, 0)] * 3, 100.0)
    with closing(bus.follow([Event], {})) as follower:
        events = [each.record for each in take(follower.poll, 3)]
    assert sorted(event.time_ms for event in events) == [50, 60, 70]
    assert {(event.text, event.source) for event in events} == {(ITEM.text, SOURCE)}
    assert lines == ["first: 3 events at 100 a second"]


def test_what_is_not_answered_is_given_up_and_said(bus: Bus, store: Store) -> None:
    lines: list[str] = []
    ledger = Ledger("run")
    playing = player(bus, store, ledger, lines)
    playing.send(ITEM, stage=0, time_ms=0)
    playing.await_answers(at_most=0)
    assert lines == ["no answer for 0.05 s; 1 events are given up"]
    playing.await_answers(at_most=0)  # they are not waited for again
    assert len(lines) == 1
