"""An engine that was not started, with its queue and its counts, and who publishes the versions that it may get."""

import pytest

from serving.batcher import BatchQueue
from serving.counts import Counts
from serving.engine import Engine
from serving.item import Item
from tests.serving.pipelines import engine_of, queue_of
from tests.serving.versions import TinyPublisher
from wire.store import Store


@pytest.fixture
def queue() -> BatchQueue[Item]:
    return queue_of(10_000)


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def engine(queue: BatchQueue[Item], counts: Counts) -> Engine:
    return engine_of(queue, counts)


@pytest.fixture
def learner(store: Store) -> TinyPublisher:
    return TinyPublisher(store)
