"""An engine that was not started, who publishes the versions that it may get, whole replicas, and their ports."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from serving.engine import Engine
from serving.http.app import make_app
from serving.http.listener import Listener
from serving.observers import Counts
from serving.queue import BatchQueue, Item
from serving.replica import Replica
from serving.replica_config import ReplicaConfig
from tests.serving.pipelines import make_engine, make_queue
from tests.serving.replicas import SERVING
from tests.serving.versions import TinyPublisher
from tests.stores import KEYS
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.store import Store


@pytest.fixture
def queue() -> BatchQueue[Item]:
    return make_queue(10_000)


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def engine(queue: BatchQueue[Item], counts: Counts) -> Engine:
    return make_engine(queue, counts)


@pytest.fixture
def learner(store: Store) -> TinyPublisher:
    return TinyPublisher(store)


@pytest.fixture
def listen() -> Iterator[Callable[[Replica], str]]:
    """Opens a port for a replica and returns its URL; closes all ports at the end."""
    listeners: list[Listener] = []

    def listen_for(replica: Replica) -> str:
        listeners.append(Listener(make_app(replica.api()), host="127.0.0.1", port=0, drain_timeout_s=1))
        return f"http://127.0.0.1:{listeners[-1].port}/v1"

    yield listen_for
    for listener in listeners:
        listener.close()


@pytest.fixture
def config(bus: Bus, bus_config: BusConfig, store_config: StoreConfig) -> ReplicaConfig:
    return ReplicaConfig(encoder="minilm-l6", serving=SERVING, bus=bus_config, store=store_config, ring=KEYS)


@pytest.fixture
def start(config: ReplicaConfig) -> Iterator[Callable[..., Replica]]:
    """Starts one more replica; closes all of them at the end."""
    started: list[Replica] = []

    def start_one(**changes: Any) -> Replica:
        started.append(Replica(replace(config, **changes), f"replica{len(started)}"))
        started[-1].start()
        return started[-1]

    yield start_one
    for replica in started:
        replica.close()
