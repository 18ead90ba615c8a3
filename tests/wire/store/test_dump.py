"""Tests the values of all keys: written elsewhere they are the same, and neighbours are left alone."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from services.keys import add_key
from tests.stores import KEYS, take_lease
from tests.wire.store.test_reports import make_report
from tests.wire.store.test_signatures import COMMAND, EVENTS, fill
from wire.config import StoreConfig
from wire.errors import BadSignature, NotFound
from wire.keyring import Kind, new_ring
from wire.records import CommandOutcome, Decision, Erase, RolloutPlan, VersionEntry
from wire.store import OperatorStep, Store
from wire.store.dump import StoredKey, list_blobs
from wire.store.versions import GAP

LEASES = ("learner", "rollout")


def filled(store: Store) -> None:
    """Stores something under every key."""
    fill(store)
    decision = Decision(version=1, action="promoted", time_ms=1_700_000_000_000, rule="B", reason="", numbers={})
    plan = RolloutPlan(revision=2, salt="", arms=())
    store.plans.write(plan, decision, current=1, step=OperatorStep("promote", 1, "me", 1))
    store.commands.note([CommandOutcome(seq=number, time_ms=1, state="applied", version=1) for number in (2, 3)])
    store.reports.write_replica(make_report("r1"))


def move(source: Store, target: Store, *, newest: int = 0) -> int:
    """Copies the contents of one store into another, encoded and decoded."""
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(source.dump.read(LEASES)), type=list[StoredKey])
    for digest, num_bytes in list_blobs(stored).items():
        try:
            target.blobs.put(source.blobs.get(digest, num_bytes))
        except NotFound:
            # The blob of the sample offer was never put.
            assert digest == "f" * 64
    return target.dump.write(stored, newest=newest)


@pytest.fixture
def other(store_config: StoreConfig) -> Any:
    with closing(Store(replace(store_config, prefix="elsewhere*:"), KEYS)) as opened:
        yield opened
        opened.dump.clear()


def test_what_is_written_elsewhere_reads_the_same(store: Store, other: Store, store_config: StoreConfig) -> None:
    filled(store)
    move(store, other)
    for number in (1, 2):
        manifest = store.versions.manifest(number)
        assert other.versions.manifest(number) == manifest
        tensor = manifest.tensors[0]
        assert other.blobs.get(tensor.digest, tensor.num_bytes) == store.blobs.get(tensor.digest, tensor.num_bytes)
    assert other.versions.stored() == [1, 2] and other.versions.current() == 1
    assert other.versions.history(10) == store.versions.history(10)
    assert other.plans.read() == store.plans.read()
    assert other.commands.open_offer() == store.commands.open_offer() is not None
    assert other.plans.read_judged(VersionEntry) == EVENTS
    assert other.plans.read_evidence(VersionEntry) == EVENTS[0]
    assert other.plans.decisions.since(0, 9) == store.plans.decisions.since(0, 9) != []
    entries = other.commands.entries()
    assert entries == store.commands.entries() and [entry.outcome is None for entry in entries] == [True, *3 * [False]]
    assert other.labels.requested() == [COMMAND]
    assert other.reports.replicas() == []
    other.dump.verify(other.dump.read(LEASES), "elsewhere*:")
    with pytest.raises(BadSignature):
        other.dump.verify(other.dump.read(LEASES), store_config.prefix)


def test_no_number_and_no_epoch_is_given_twice(store: Store, other: Store) -> None:
    filled(store)
    lease = take_lease(store, "the last")
    assert move(store, other, newest=7) == 7 + GAP and other.versions.next_number() == 8 + GAP
    assert move(store, other) == 2 + GAP
    assert take_lease(other, "the first").epoch > lease.epoch


def test_the_same_keys_may_be_written_again(store: Store, other: Store) -> None:
    filled(store)
    move(store, other)
    once = other.dump.read(LEASES)
    move(store, other)
    assert other.dump.read(LEASES) == once


def test_requests_to_forget_are_permanent(store: Store, other: Store) -> None:
    """N3: erasures of subjects stay in force when a backup replaces the contents of the store."""
    filled(store)
    other.commands.append(COMMAND)
    other.commands.append(Erase(digest="e" * 32))
    other.commands.append(Erase(digest="d" * 32))
    other.dump.clear(kept=("commands",))
    move(store, other)
    commands = other.commands.read()
    assert commands[:-1] == store.commands.read() and commands[-1].body == {"digest": "e" * 32}


def test_only_keys_of_ours_are_removed(store: Store, other: Store, raw: Any, key: Callable[..., str]) -> None:
    filled(store)
    filled(other)
    neighbour = key("shop", "plan")  # the prefix of another service may begin with ours
    raw.set(neighbour, "theirs")
    assert not store.dump.is_empty()
    store.dump.clear()
    assert store.dump.is_empty() and raw.get(neighbour) == b"theirs" and not other.dump.is_empty()
    assert store.plans.read() is None and store.versions.stored() == []


def test_what_a_stranger_signed_is_refused_by_name(store: Store, store_config: StoreConfig) -> None:
    fill(store)
    with closing(Store(store_config, new_ring())) as stranger, pytest.raises(BadSignature, match="manifest:1"):
        stranger.dump.verify(store.dump.read(LEASES), store_config.prefix)
    with closing(Store(store_config, add_key(KEYS, Kind.NEXT))) as ours:
        ours.dump.verify(store.dump.read(LEASES), store_config.prefix)
