"""Events that get no answer are given up, and the run goes on."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from evals.load.ledger import Ledger
from evals.load.player import SOURCE, Callbacks, Player, Timeouts
from evals.load.sender import Sender
from evals.load.session import Loops
from evals.load.watcher import Watcher
from evals.streams.stream import Arrival, StreamItem
from tests.brokers import take
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Event
from wire.store import Store

pytestmark = pytest.mark.live

ITEM = StreamItem("where is my parcel", "delivery")


@contextmanager
def player(config: BusConfig, store: Store, ledger: Ledger, lines: list[str]) -> Iterator[Player]:
    callbacks = Callbacks(began_ms=0, now_ms=lambda: 50, say=lines.append, check=lambda: None)
    timeouts = Timeouts(answer_s=0.05, poll_interval_s=0.01)
    sender = Sender(lambda: config, client_id="tests")
    with Loops(sender):
        yield Player(ledger, Watcher(store), sender, callbacks, timeouts=timeouts, seed=0)


def test_each_event_has_the_time_at_which_it_was_due(bus: Bus, bus_config: BusConfig, store: Store) -> None:
    lines: list[str] = []
    with player(bus_config, store, Ledger("run"), lines) as playing, closing(bus.follow([Event], {})) as follower:
        playing.play("first", [Arrival(ITEM, 0)] * 3, 100.0)
        events = [each.record for each in take(follower.poll, 3)]
    assert sorted(event.time_ms for event in events) == [50, 60, 70]
    assert {(event.text, event.source) for event in events} == {(ITEM.text, SOURCE)}
    assert lines == ["first: 3 events at 100 a second"]


def test_unanswered_events_are_given_up_with_a_message(bus: Bus, bus_config: BusConfig, store: Store) -> None:
    lines: list[str] = []
    with player(bus_config, store, Ledger("run"), lines) as playing:
        playing.send(ITEM, stage=0, time_ms=0)
        playing.await_answers(at_most=0)
        assert lines == ["no answer for 0.05 s; 1 events are given up"]
        # Events that were given up are not waited for again.
        playing.await_answers(at_most=0)
        assert len(lines) == 1
