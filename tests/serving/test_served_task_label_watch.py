"""A replica follows what operators did to the set of labels, and keeps the set while the store is away."""

import pytest

from serving.served_task import LabelWatch
from wire.config import LabelConfig
from wire.records import LabelCommand
from wire.store import Store, keys

pytestmark = pytest.mark.live


def test_a_replica_has_the_set_that_the_store_has(store: Store) -> None:
    watch = LabelWatch(store, LabelConfig(mode="listed", allow=("bill",)))
    watch.follow()
    assert watch.labels.listed == {"bill"}
    for number, label in enumerate(("card", "cash"), start=1):
        store.commands.append(LabelCommand(number=number, action="add", labels=(label,)))
        watch.follow()
    assert watch.labels.listed == {"bill", "card", "cash"} and watch.labels.number == 2


def test_what_cannot_be_read_changes_nothing(store: Store) -> None:
    watch = LabelWatch(store, LabelConfig())
    store._server.ask("RPUSH", store._server.key(keys.LABELS), b"forged")
    watch.follow()
    assert watch.labels.number == 0
