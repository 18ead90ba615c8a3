"""A number that names another version now is loaded anew, and nothing else is."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec

from services.keys import add_key, rotate_to
from serving.engine import Engine
from serving.weights.loader import Manifests
from serving.weights.swap import Swap
from tests.serving.versions import TinyPublisher, build_plan, head_logits, make_model
from tests.stores import KEYS
from wire.config import StoreConfig
from wire.keyring import Kind
from wire.store import Store


def test_after_a_power_cut_a_number_that_is_used_again_is_loaded_anew(
    learner: TinyPublisher, swap: Swap, engine: Engine, store: Store, raw: Any, key: Callable[..., str]
) -> None:
    """N9: the store has lost the last version, and its number names other weights now. The plan has the same salt."""
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    assert engine.live is not None
    first = engine.live.versions[1]
    for name in raw.keys(key("*")):
        raw.delete(name)
    TinyPublisher(store).publish(1, encoder_seed=1)
    store.plans.write(msgspec.structs.replace(build_plan(1), time_ms=900))
    swap.follow_plan()
    second = engine.live.versions[1]
    assert second is not first
    assert head_logits(second.model, "hello") == head_logits(make_model(1, encoder_seed=1), "hello")


def test_a_manifest_that_cannot_be_read_takes_the_place_of_nothing(
    learner: TinyPublisher, swap: Swap, engine: Engine, raw: Any, key: Callable[..., str]
) -> None:
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    assert engine.live is not None
    first = engine.live.versions[1]
    raw.hset(key("manifest", 1), "signature", b"of somebody else")
    learner.plan(1)
    swap.follow_plan()
    assert engine.live.plan.revision == 2 and engine.live.versions[1] is first


def test_a_manifest_that_was_signed_anew_is_the_same(learner: TinyPublisher, store_config: StoreConfig) -> None:
    learner.publish(1)
    both = add_key(KEYS, Kind.NEXT)
    with closing(Store(store_config, rotate_to(both, both.of(Kind.NEXT)[0]))) as store:
        manifests = Manifests(store.versions)
        manifests.read(1, store.versions)
        assert store.signatures.renew() and manifests.find_replaced([1, 2]) == []
        manifests.keep([2])
        assert not [*manifests] and manifests.find_replaced([1]) == []
