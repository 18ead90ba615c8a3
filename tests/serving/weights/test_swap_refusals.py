"""What a swap refuses or finds damaged, and which versions answer in its place."""

from collections.abc import Callable
from typing import Any

import msgspec

from serving.engine import Engine
from serving.weights.swap import Swap
from tests.serving.versions import TinyPublisher, build_plan, head_logits, make_model
from tests.serving.weights.swaps import arms, make_swap, served
from tests.stores import plant_plan
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.keyring import parse
from wire.store import Store


def test_a_refused_candidate_leaves_the_stable_version_answering(
    learner: TinyPublisher, swap: Swap, engine: Engine
) -> None:
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    learner.publish(2, model_spec="0" * 64)
    learner.plan(1, 2)
    swap.follow_plan()
    assert served(engine) == (2, 1)
    assert swap.refused == {"wrong_spec": 1}


def test_a_refused_stable_version_is_stood_in_for_by_what_was_live(
    learner: TinyPublisher, swap: Swap, engine: Engine
) -> None:
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    learner.publish(2, model_spec="0" * 64)
    learner.plan(2, previous=1)
    swap.follow_plan()
    assert served(engine) == (2, 1)
    assert arms(engine) == ["stand-in"]
    assert swap.refused == {"wrong_spec": 1}


def test_a_replica_that_starts_while_the_stable_version_is_not_stored_answers_with_the_version_before(
    learner: TinyPublisher, swap: Swap, engine: Engine, store_config: StoreConfig
) -> None:
    """B1: the replica had no weights, and answered 503, until an operator intervened."""
    learner.publish(1)
    learner.publish(2)
    plant_plan(store_config, build_plan(9, 2, previous=1))
    swap.follow_plan()
    assert served(engine) == (1, 1, 2)
    assert arms(engine) == ["stand-in", "candidate"]
    assert engine.live is not None and engine.live.stand_in == 1


def test_where_nothing_of_the_plan_can_be_had_the_newest_stored_version_that_loads_answers(
    learner: TinyPublisher, swap: Swap, engine: Engine, store_config: StoreConfig
) -> None:
    """B1: `up` could not start again."""
    for number in (1, 2):
        learner.publish(number)
    learner.publish(3, model_spec="0" * 64)
    plant_plan(store_config, build_plan(9, previous=8))
    for _ in range(3):
        swap.follow_plan()
    assert served(engine) == (1, 2)
    assert arms(engine) == ["stand-in"]
    assert swap.refused == {"not_found": 2, "wrong_spec": 1}


def test_the_stable_version_takes_its_place_back(
    learner: TinyPublisher, store: Store, engine: Engine, store_config: StoreConfig
) -> None:
    swap = make_swap(store, engine, retry_s=0.0)
    learner.publish(1)
    plant_plan(store_config, build_plan(2))
    swap.follow_plan()
    assert (served(engine), arms(engine)) == ((1, 1), ["stand-in"])
    learner.publish(2)
    swap.follow_plan()
    assert (served(engine), arms(engine)) == ((1, 2), ["stable"])
    assert set(swap.model_bytes) == {"2", "resident"}


def test_the_next_good_version_is_taken_after_a_bad_one(learner: TinyPublisher, swap: Swap, engine: Engine) -> None:
    learner.publish(1)
    learner.plan(1)
    learner.publish(2, config="{}")
    learner.plan(2, previous=1)
    swap.follow_plan()
    learner.publish(3)
    learner.plan(3, previous=1)
    swap.follow_plan()
    assert served(engine) == (3, 3)


def test_a_bad_version_is_counted_once_and_left_alone(learner: TinyPublisher, swap: Swap) -> None:
    learner.publish(1, config="{}")
    learner.plan(1)
    for _ in range(5):
        swap.follow_plan()
    assert swap.refused == {"wrong_config": 1}


def test_a_bad_version_is_looked_at_again_later(
    learner: TinyPublisher, store: Store, engine: Engine, store_config: StoreConfig
) -> None:
    swap = make_swap(store, engine, retry_s=0.0)
    plant_plan(store_config, build_plan(7))
    swap.follow_plan()
    assert swap.refused == {"not_found": 1}
    for number in range(1, 8):
        learner.publish(number)
    swap.follow_plan()
    assert served(engine) == (1, 7)
    assert swap.refused == {"not_found": 1}


def test_a_plan_under_another_secret_changes_nothing(
    learner: TinyPublisher, swap: Swap, engine: Engine, store_config: Any
) -> None:
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    stranger = Store(store_config, parse("another key"))
    stranger.plans.write(build_plan(1, revision=2))
    stranger.close()
    swap.follow_plan()
    assert served(engine) == (1, 1)
    assert swap.refused == {"bad_signature": 1}


def stored(raw: Any, name: str) -> dict[bytes, bytes]:
    content: dict[bytes, bytes] = raw.hgetall(name)
    return content


def put_back(raw: Any, name: str, content: dict[bytes, bytes]) -> None:
    raw.delete(name)
    raw.hset(name, mapping=content)


def test_an_old_plan_that_is_put_back_is_refused_and_said_once(
    learner: TinyPublisher, swap: Swap, engine: Engine, raw: Any, key: Callable[..., str]
) -> None:
    """B23: the old plan was accepted, since its signature is valid."""
    learner.publish(1)
    learner.plan(1)
    old = stored(raw, key("plan"))
    learner.publish(2)
    learner.plan(2, previous=1)
    newest = stored(raw, key("plan"))
    swap.follow_plan()
    put_back(raw, key("plan"), old)
    for _ in range(3):
        swap.follow_plan()
    assert served(engine) == (2, 2)
    assert swap.refused == {"old_plan": 1}
    put_back(raw, key("plan"), newest)
    learner.plan(1)
    swap.follow_plan()
    assert served(engine) == (3, 1)


def test_after_a_wipe_the_first_plan_is_followed_and_numbers_mean_other_versions(
    learner: TinyPublisher, swap: Swap, engine: Engine, store: Store, raw: Any, key: Callable[..., str]
) -> None:
    learner.publish(1)
    learner.plan(1)
    learner.plan(1)
    swap.follow_plan()
    for name in raw.keys(key("*")):
        raw.delete(name)
    again = TinyPublisher(store)
    again.publish(1, encoder_seed=1)
    store.plans.write(msgspec.structs.replace(build_plan(1), salt="fresh"))
    swap.follow_plan()
    assert served(engine) == (1, 1)
    assert engine.live is not None
    assert head_logits(engine.live.versions[1].model, "hello") == head_logits(make_model(1, encoder_seed=1), "hello")


def damage(raw: Any, name: str) -> dict[bytes, bytes]:
    """Flips a bit of the blob `name`; returns the blob from before."""
    before = stored(raw, name)
    chunk = bytearray(before[b"0"])
    chunk[-1] ^= 1
    raw.hset(name, 0, bytes(chunk))
    return before


def test_damaged_blobs_are_reported_until_they_are_repaired(
    learner: TinyPublisher, swap: Swap, engine: Engine, raw: Any, key: Callable[..., str]
) -> None:
    """B14: damaged blobs were reported to nobody, and every half minute the version was fetched with all its blobs."""
    manifest = learner.publish(1)
    learner.plan(1)
    first, second = sorted(entry.digest for entry in manifest.tensors)[:2]
    before = damage(raw, key("blob", first))
    missing = stored(raw, key("blob", second))
    raw.delete(key("blob", second))
    swap.start()
    eventually(lambda: swap.damaged == (first, second))
    assert engine.live is None
    put_back(raw, key("blob", first), before)
    put_back(raw, key("blob", second), missing)
    learner.publish(2)  # a notice: whatever changed, it is looked at again
    eventually(lambda: engine.live is not None, within_s=2)
    assert served(engine) == (1, 1)
    assert swap.damaged == ()


def test_a_repair_costs_what_was_damaged(
    learner: TinyPublisher, swap: Swap, engine: Engine, raw: Any, key: Callable[..., str]
) -> None:
    manifest = learner.publish(1)
    learner.plan(1)
    name = key("blob", manifest.tensors[0].digest)
    before = damage(raw, name)
    swap.follow_plan()
    for entry in manifest.tensors[1:]:
        raw.delete(key("blob", entry.digest))
    put_back(raw, name, before)
    swap._refusals.retry_damaged()
    swap.follow_plan()
    assert served(engine) == (1, 1)


def test_nothing_is_taken_from_a_server_that_may_evict_weights(
    learner: TinyPublisher, swap: Swap, engine: Engine, setting: Any
) -> None:
    setting("maxmemory-policy", "allkeys-lru")
    learner.publish(1)
    learner.plan(1)
    swap.start()
    eventually(lambda: "maxmemory-policy" in swap._store_error)
    assert engine.live is None
    setting("maxmemory-policy", "noeviction")
    eventually(lambda: engine.live is not None)
