"""Weights in use: tasks whose versions have equal weights share them, and nothing is kept that nobody uses."""

import gc
from weakref import ref

from model.quantized import QuantizedEncoder, common_layers
from serving.config import PrecisionConfig
from serving.weights.in_use import WeightsInUse, sharing_key
from serving.weights.loader import Loader
from tests.serving.versions import TINY, TinyPublisher, build_manifest, tokenizer
from tests.stores import KEYS
from wire.config import StoreConfig
from wire.store import Store


def test_the_key_is_that_of_encoder_and_projection() -> None:
    assert sharing_key(build_manifest(1)) == sharing_key(build_manifest(2))
    assert sharing_key(build_manifest(1)) != sharing_key(build_manifest(1, encoder_seed=1))


def test_tasks_with_equal_weights_have_one_encoder(store_config: StoreConfig) -> None:
    """Each task has its own store, and so its own version 1."""
    weights = WeightsInUse()
    loaded = []
    for task in ("", "urgency"):
        store = Store(store_config, KEYS, task=task)
        TinyPublisher(store).publish(1)
        loaded.append(make_loader(store, weights).load(1))
        store.close()
    first, second = loaded
    assert first.model.encoder is second.model.encoder
    assert first.model.head.features is second.model.head.features
    assert first.latency is second.latency, "else they might differ in the precision, and need two forwards"


def test_loaded_encoders_are_known_by_their_blocks(learner: TinyPublisher, store: Store) -> None:
    """Each version comes by a loader of its own, with nothing in common but the bytes in the store."""
    learner.publish(1)
    learner.publish(2)
    learner.publish(3, encoder_seed=1)
    first, same, other = (make_loader(store, WeightsInUse()).load(number).model.encoder for number in (1, 2, 3))
    assert isinstance(first, QuantizedEncoder)
    assert isinstance(same, QuantizedEncoder)
    assert isinstance(other, QuantizedEncoder)
    assert common_layers([first, same]) == TINY.n_layers
    assert common_layers([first, other]) == 0


def test_what_no_version_needs_is_not_kept(learner: TinyPublisher, store: Store) -> None:
    weights = WeightsInUse()
    loader = make_loader(store, weights)
    learner.publish(1)
    encoder = ref(loader.load(1).model.encoder)
    loader.keep(())
    gc.collect()
    assert encoder() is None


def make_loader(store: Store, weights: WeightsInUse) -> Loader:
    return Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05, weights=weights)
