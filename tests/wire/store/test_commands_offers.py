"""The offer of an encoder: signed, open until it has an outcome, and its blobs are not collected meanwhile."""

from collections.abc import Callable

import pytest

from tests.stores import entry_of
from wire.errors import BadSignature
from wire.records import EncoderOffer, OfferOutcome
from wire.store import Store, keys

pytestmark = pytest.mark.live

OFFER = EncoderOffer(id="a", name="tiny", time_ms=1, config="{}")
REFUSED = OfferOutcome(offer="a", name="tiny", state="refused", time_ms=2, version=7, reasons=("worse", "collapsed"))


def test_an_offer_is_open_until_it_has_an_outcome(open_store: Callable[[], Store]) -> None:
    ours = open_store()
    theirs = open_store()
    assert theirs.offers.open() is None and theirs.offers.outcome("a") is None
    ours.offers.make(OFFER)
    assert theirs.offers.open() == OFFER and ours.offers.outcome("a") is None
    theirs.offers.note(REFUSED)
    assert ours.offers.open() is None and ours.offers.outcome("a") == REFUSED


def test_an_outcome_is_in_the_history_once(store: Store) -> None:
    store.offers.make(OFFER)
    store.offers.note(REFUSED)
    store.offers.note(REFUSED)
    (entry,) = store.versions.history(9)
    assert (entry.action, entry.version, entry.detail) == ("refused", 7, "encoder tiny: worse, collapsed")


def test_the_next_offer_takes_the_place_of_the_last(store: Store) -> None:
    store.offers.make(OFFER)
    store.offers.note(REFUSED)
    other = EncoderOffer(id="b", name="other", time_ms=3)
    store.offers.make(other)
    store.offers.note(REFUSED)  # of the offer before: it is too late
    assert store.offers.open() == other and store.offers.outcome("a") is None


def test_the_blobs_of_an_open_offer_are_kept(store: Store) -> None:
    blob = b"some weights"
    entry = entry_of(store, blob)
    store.offers.make(EncoderOffer(id="a", name="tiny", time_ms=1, tensors=(entry,)))
    store.collector.collect([], grace_ms=-60_000)
    assert store.blobs.has([entry.digest]) == {entry.digest}
    store.offers.note(REFUSED)
    store.collector.collect([], grace_ms=-60_000)
    assert not store.blobs.has([entry.digest])


def test_an_offer_that_was_changed_is_refused(store: Store) -> None:
    store.offers.make(OFFER)
    server = store._server
    server.ask("HSET", server.key(keys.OFFER), "body", b'{"id":"c"}')
    with pytest.raises(BadSignature):
        store.offers.open()
