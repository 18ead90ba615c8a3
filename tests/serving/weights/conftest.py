"""A swap that has not begun to follow the plan."""

from collections.abc import Iterator

import pytest

from serving.engine import Engine
from serving.weights.swap import Swap
from tests.serving.weights.swaps import make_swap
from wire.store import Store


@pytest.fixture
def swap(store: Store, engine: Engine) -> Iterator[Swap]:
    swap = make_swap(store, engine)
    yield swap
    swap.close()
