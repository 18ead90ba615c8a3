"""Tests which keys signed the stored records, and that re-signing changes no byte of a record."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from services.keys import add_key, rotate_to
from tests.stores import publish, take_lease
from tests.wire.stored_samples import SAMPLES
from wire.config import StoreConfig
from wire.errors import BadSignature, CannotSign
from wire.keyring import Kind, new_ring, parse
from wire.records import EncoderOffer, Erase, LabelCommand, RolloutPlan, VersionEntry
from wire.store import Store
from wire.store.signatures import BATCH

SHARED = parse("a secret of an earlier release")
BOTH = add_key(SHARED, Kind.NEXT)
NEW = rotate_to(BOTH, BOTH.of(Kind.NEXT)[0])
OLD_ID = SHARED.keys[0].id
NEW_ID = NEW.keys[0].id
COMMAND = LabelCommand(number=1, action="retire", labels=("{a}",))
EVENTS = [VersionEntry(version=number, action="published", time_ms=1) for number in range(BATCH + 7)]


def fill(store: Store) -> None:
    """Stores a record of each kind that is signed."""
    lease = take_lease(store)
    publish(store, lease, 2)
    store.leases.release(lease)
    store.plans.write(RolloutPlan(revision=1, salt="", arms=()))
    offer = SAMPLES["encoder_offer.v1"]
    assert isinstance(offer, EncoderOffer)
    store.commands.append(offer)
    store.plans.write_evidence(EVENTS[0], EVENTS, max_judged=10_000)
    store.commands.append(COMMAND)
    store.commands.append(Erase(digest="d" * 32))


def test_everything_is_signed_anew_and_reads_the_same(
    store_config: StoreConfig, raw: Any, key: Callable[..., str]
) -> None:
    with closing(Store(store_config, SHARED)) as old, closing(Store(store_config, NEW)) as new:
        fill(old)
        names = ["plan", "evidence", "offer", "manifest:1", "manifest:2", "commands", "labels", "judged"]
        assert new.signatures.signers() == {OLD_ID: names}
        before = [raw.hget(key(*name.split(":")), "body") for name in names[:-3]]
        commands = new.commands.read()
        assert new.signatures.renew() == 5 + 3 + 1 + len(EVENTS)
        assert new.signatures.signers() == {NEW_ID: names}
        assert [raw.hget(key(*name.split(":")), "body") for name in names[:-3]] == before
        assert new.signatures.renew() == 0
        with closing(Store(store_config, NEW.for_replicas())) as replica:
            assert replica.versions.manifest(2) == new.versions.manifest(2)
            assert replica.plans.read() == new.plans.read()
            assert replica.labels.requested() == [COMMAND] and replica.commands.read() == commands
        assert new.plans.read_judged(VersionEntry) == EVENTS and new.commands.open_offer() is not None
        assert new.commands.read() == commands and commands[-1].body == {"digest": "d" * 32}
        with pytest.raises(BadSignature):
            old.versions.manifest(1)


def test_what_a_stranger_signed_is_named_and_left_alone(store_config: StoreConfig) -> None:
    stranger = new_ring()
    with closing(Store(store_config, stranger)) as theirs, closing(Store(store_config, NEW)) as ours:
        fill(theirs)
        assert [*ours.signatures.signers()] == [""] and ours.signatures.renew() == 0
        assert theirs.versions.manifest(1).version == 1


def test_a_record_that_is_replaced_meanwhile_keeps_its_own_signature(store_config: StoreConfig) -> None:
    with closing(Store(store_config, SHARED)) as old, closing(Store(store_config, NEW)) as new:

        def write_plans() -> None:
            for revision in range(1, 201):
                old.plans.write(RolloutPlan(revision=revision, salt="", arms=()))
                if not revision % 20:
                    time.sleep(0.005)  # so that the renewal is first now and then, on an idle machine, too

        writer = threading.Thread(target=write_plans)
        writer.start()
        renewed = 0
        while writer.is_alive():
            renewed += new.signatures.renew()
            # Raises BadSignature if the signature belongs to another plan.
            new.plans.read()
        writer.join()
        plan = new.plans.read()
        assert plan is not None and plan.revision == 200 and renewed > 0


def test_a_ring_that_cannot_sign_renews_nothing(store_config: StoreConfig) -> None:
    with closing(Store(store_config, new_ring().for_replicas())) as replica, pytest.raises(CannotSign):
        replica.signatures.renew()
