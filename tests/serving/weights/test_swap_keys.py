"""A replica that was broken into cannot make another serve its weights; and keys rotate while versions are served."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from pydantic import SecretStr

from services.keys import add_key, retire_key, rotate_to
from services.local.redis import find_binary, read_version, start_redis
from serving.engine import Engine
from serving.observers import Counts
from serving.weights.swap import Swap
from tests.required import missing
from tests.serving.pipelines import make_engine, make_queue
from tests.serving.versions import TinyPublisher, build_plan
from tests.serving.weights.swaps import make_swap, served
from tests.wire.store.test_server_connecting import PASSWORD, accounts
from wire.config import StoreConfig
from wire.errors import CannotSign, StoreRefused
from wire.keyring import Key, KeyRing, Kind, new_key, new_ring
from wire.records import WeightManifest, key_name
from wire.store import Store
from wire.store.signed import encode

RING = new_ring()
REPLICA = RING.for_replicas()
"""All that a replica holds, and so all that whoever breaks into it has."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConfig]:
    """Starts a Redis with the accounts of docs/connect.md; its default user may do everything."""
    if read_version(find_binary()) < "7":
        missing("redis8", "Redis 7 or newer: an account that may only read some keys")
    folder = Path(tmp_path_factory.mktemp("guarded"))
    server = start_redis(folder / "redis", options={"aclfile": [str(accounts(folder / "users.acl"))]})
    yield StoreConfig(url=server.url, prefix="ours:", poll_interval_ms=50)
    server.stop()


@pytest.fixture
def others() -> Iterator[Callable[[StoreConfig, KeyRing], tuple[Swap, Engine]]]:
    """Returns a function that starts another replica's swap with the keys of a replica."""
    with ExitStack() as opened:

        def start(config: StoreConfig, ring: KeyRing) -> tuple[Swap, Engine]:
            engine = make_engine(make_queue(10), Counts())
            swap = make_swap(opened.enter_context(closing(Store(config, ring))), engine, retry_s=0.0)
            opened.callback(swap.close)
            return swap, engine

        yield start


def forgeries(body: bytes, name: str, stored: bytes) -> Iterator[bytes]:
    """Yields the signatures of the record `name` that somebody with a replica's keys could make."""
    (public,) = REPLICA.of(Kind.PUBLIC)
    own = new_key(Kind.SECRET)
    for secret in (public.value, public.value.hex().encode(), public.line.encode(), *REPLICA.receipts):
        yield Key(Kind.SHARED, secret).hmac(body, name).encode()
        yield f"ed25519:{public.id}:{Key(Kind.SECRET, secret[:32]).sign(body, name).hex()}".encode()
    yield KeyRing((own,)).sign(body, name).encode()
    yield f"ed25519:{public.id}:{own.sign(body, name).hex()}".encode()
    yield stored  # that of another record
    yield b""


def test_whoever_has_the_keys_of_a_replica_cannot_make_another_serve_its_weights(
    guarded: StoreConfig, others: Callable[[StoreConfig, KeyRing], tuple[Swap, Engine]]
) -> None:
    account = replace(guarded, username="replica", password=SecretStr(PASSWORD))
    with closing(Store(guarded, RING)) as store, closing(Store(account, REPLICA)) as thief:
        learner = TinyPublisher(store)
        learner.publish(1)
        learner.plan(1)
        victim, engine = others(account, REPLICA)
        victim.follow_plan()
        own = msgspec.structs.replace(store.versions.manifest(1), version=2, parent=1, labels=("a", "b", "c", "d"))
        attempts: Sequence[Callable[[], object]] = (
            lambda: thief.blobs.put(b"weights of my own"),
            lambda: thief.plans.write(build_plan(2, revision=2)),
            lambda: thief.versions.publish(own, learner.lease),
            lambda: thief.signatures.renew(),
            lambda: thief.plans.forget_evidence(),
        )
        for attempt in attempts:
            with pytest.raises((StoreRefused, CannotSign, ValueError)):
                attempt()
        victim.follow_plan()
        assert served(engine) == (1, 1) and victim.refused == {}
        plant_forgeries(guarded, own, victim=victim, engine=engine)


def plant_forgeries(config: StoreConfig, own: WeightManifest, *, victim: Swap, engine: Engine) -> None:
    """Writes, past the accounts, every forged plan and manifest: the victim serves what it served."""
    with redis.Redis.from_url(config.url, protocol=2) as raw:
        plan, manifest = (key_name(config.prefix, *parts) for parts in (("plan",), ("manifest", 2)))
        good: Any = raw.hgetall(plan)
        for record in (build_plan(2, revision=2), msgspec.structs.replace(build_plan(1, revision=2), salt="own")):
            body = encode(record)
            for signature in forgeries(body, plan, good[b"signature"]):
                raw.hset(plan, mapping={"body": body, "signature": signature, "revision": 2})
                raw.hset(manifest, mapping={"body": encode(own), "signature": signature})
                victim.follow_plan()
                assert served(engine) == (1, 1)
        signed = encode(build_plan(2, revision=2))
        raw.hset(plan, mapping={"body": signed, "signature": RING.sign(signed, plan), "revision": 2})
        for signature in forgeries(encode(own), manifest, good[b"signature"]):
            raw.hset(manifest, mapping={"body": encode(own), "signature": signature})
            victim.follow_plan()
            assert engine.live is not None and engine.live.plan.arms[0].version == 1
        assert {*victim.refused} == {"bad_signature", "unknown_key"}
        raw.hset(manifest, "signature", RING.sign(encode(own), manifest))
        victim.follow_plan()
        assert served(engine)[1] == 2  # with the learner's signature the same weights are served


def test_keys_rotate_while_versions_are_published_and_served_and_nothing_is_refused(
    store_config: StoreConfig, others: Callable[[StoreConfig, KeyRing], tuple[Swap, Engine]]
) -> None:
    first = RING.of(Kind.SECRET)[0]
    both = add_key(RING, Kind.NEXT)
    new = rotate_to(both, both.of(Kind.NEXT)[-1])
    number = 0
    # (keys of the learner, keys of one replica, keys of the other), as programs are started again one by one
    steps = [(RING, RING, RING), (RING, both, RING), (RING, both, both), (both, both, both), (new, both, both)]
    steps += [(new, new, both), (new, new, new)]
    for ring, *rings in steps:
        with closing(Store(store_config, ring)) as store:
            swaps = [others(store_config, each.for_replicas()) for each in rings]
            for _ in range(2):
                number += 1
                publish_and_follow(store, number, [swap for swap, _ in swaps])
            assert [served(engine)[1] for _, engine in swaps] == [number, number]
            assert [swap.refused for swap, _ in swaps] == [{}, {}]
    with closing(Store(store_config, new)) as store:
        store.signatures.renew()
        assert {*store.signatures.signers()} == {new.keys[0].id}
    swap, engine = others(store_config, retire_key(new, first).for_replicas())
    swap.follow_plan()
    assert served(engine)[1] == number and swap.refused == {}


def publish_and_follow(store: Store, number: int, swaps: Sequence[Swap]) -> None:
    """Publishes the next version, as the learner does, puts it into force, as the rollout does, and follows."""
    learner = TinyPublisher(store)
    learner.publish(number)
    learner.plan(number)
    store.leases.release(learner.lease)
    for swap in swaps:
        swap.follow_plan()


def test_what_a_retired_key_signed_is_refused_and_its_reason_has_a_name(
    store_config: StoreConfig, others: Callable[[StoreConfig, KeyRing], tuple[Swap, Engine]]
) -> None:
    with closing(Store(store_config, RING)) as store:
        publish_and_follow(store, 1, [])
    both = add_key(RING, Kind.NEXT)
    left = retire_key(rotate_to(both, both.of(Kind.NEXT)[-1]), RING.of(Kind.SECRET)[0])
    swap, engine = others(store_config, left.for_replicas())
    swap.follow_plan()
    assert engine.live is None and swap.refused == {"unknown_key": 1}
