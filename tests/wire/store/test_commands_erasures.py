from collections.abc import Callable
from typing import Any

import pytest

from wire.errors import ErasuresFull
from wire.records import Erasure
from wire.store import FOREIGN, Store

pytestmark = pytest.mark.live


def test_requests_come_in_their_order_and_each_once(store: Store) -> None:
    for digest in ("a", "b", "a", "c", "b"):
        store.erasures.request(digest)
    assert store.erasures.requested(0) == ["a", "b", "c"] and store.erasures.requested(2) == ["c"]
    assert store.erasures.requested(3) == []


def test_there_is_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.store.commands.MAX_ERASURES", 2)
    for digest in ("a", "b", "a"):
        store.erasures.request(digest)
    with pytest.raises(ErasuresFull, match="2 subjects"):
        store.erasures.request("c")
    store.erasures.request("b")


def test_what_no_key_of_ours_has_sealed_is_no_request_and_fills_nothing(
    store: Store, raw: Any, key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """N8: whoever may write to the server filled the list for good, and with it every checkpoint."""
    monkeypatch.setattr("wire.store.commands.MAX_ERASURES", 3)
    store.erasures.request("a")
    raw.rpush(key("erasures"), b"d" * 32, b"0" * 64 + b"d" * 32)
    assert store.erasures.requested(0) == ["a", FOREIGN, FOREIGN]
    for digest in ("b", "c"):
        store.erasures.request(digest)
    assert store.erasures.requested(0) == ["a", "b", "c"]
    with pytest.raises(ErasuresFull):
        store.erasures.request("d")


def test_what_became_of_a_request_can_be_read_elsewhere(open_store: Callable[[], Store]) -> None:
    ours = open_store()
    theirs = open_store()
    assert theirs.erasures.of("a") is None
    for version in (0, 4):
        erasure = Erasure(digest="a", number=1, time_ms=5, removed={"replay": 2}, version=version)
        ours.erasures.note(erasure)
        assert theirs.erasures.of("a") == erasure
