"""The offer of an encoder: it is signed, and its blobs are not collected until it is closed."""

from collections.abc import Callable

import pytest

from tests.stores import make_entry
from wire.errors import BadSignature
from wire.records import CommandOutcome, EncoderOffer
from wire.store import Store, keys

pytestmark = pytest.mark.live

OFFER = EncoderOffer(id="a", name="tiny", time_ms=1, config="{}")


def refused(seq: int) -> CommandOutcome:
    return CommandOutcome(seq=seq, state="refused", time_ms=2, version=7, reasons=("worse", "collapsed"))


def test_an_offer_is_open_until_it_is_closed(open_store: Callable[[], Store]) -> None:
    ours = open_store()
    theirs = open_store()
    assert theirs.commands.open_offer() is None
    command = ours.commands.append(OFFER)
    assert theirs.commands.open_offer() == OFFER and ours.commands.outcome(command) is None
    theirs.commands.close_offer(refused(command.seq), "tiny")
    assert ours.commands.open_offer() is None


def test_an_outcome_is_in_the_history_once(store: Store) -> None:
    command = store.commands.append(OFFER)
    for _ in range(2):
        store.commands.close_offer(refused(command.seq), "tiny")
    (entry,) = store.versions.history(9)
    assert (entry.action, entry.version, entry.detail) == ("refused", 7, "encoder tiny: worse, collapsed")


def test_the_next_offer_takes_the_place_of_the_last(store: Store) -> None:
    first = store.commands.append(OFFER)
    store.commands.close_offer(refused(first.seq), "tiny")
    other = EncoderOffer(id="b", name="other", time_ms=3)
    store.commands.append(other)
    # This closes the earlier offer, which has no effect any more.
    store.commands.close_offer(refused(first.seq), "tiny")
    assert store.commands.open_offer() == other


def test_the_blobs_of_an_open_offer_are_kept(store: Store) -> None:
    blob = b"some weights"
    entry = make_entry(store, blob)
    command = store.commands.append(EncoderOffer(id="a", name="tiny", time_ms=1, tensors=(entry,)))
    store.collector.collect([], grace_ms=-60_000)
    assert store.blobs.has([entry.digest]) == {entry.digest}
    store.commands.close_offer(refused(command.seq), "tiny")
    store.collector.collect([], grace_ms=-60_000)
    assert not store.blobs.has([entry.digest])


def test_an_offer_that_was_changed_is_refused(store: Store) -> None:
    store.commands.append(OFFER)
    server = store._server
    server.ask("HSET", server.key(keys.OFFER), "body", b'{"id":"c"}')
    with pytest.raises(BadSignature):
        store.commands.open_offer()
