"""Publishing, reading and refusing versions, on a real server."""

from collections.abc import Callable

import pytest

from tests.stores import manifest_of
from wire.errors import ParentMoved
from wire.store import Store


def test_a_published_version_is_read_back(store: Store) -> None:
    lease = store.acquire("learner", "a", 5_000)
    assert lease is not None
    manifest = manifest_of(store, 1, epoch=lease.epoch)
    store.publish(manifest, lease)
    assert store.manifest(1) == manifest
    assert store.current() == 1


def test_a_parent_that_is_not_current_is_refused(open_store: Callable[[], Store]) -> None:
    store = open_store()
    lease = store.acquire("learner", "a", 5_000)
    assert lease is not None
    store.publish(manifest_of(store, 1, epoch=lease.epoch), lease)
    with pytest.raises(ParentMoved, match="1 is current"):
        store.publish(manifest_of(store, 2, parent=0, epoch=lease.epoch), lease)
