"""Tests the findings about the records in the store: golden bytes, and bytes that no release wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.state_formats import FormatFinding, Readability, examine_store
from tests.services.migration.states import JUDGED, TALLIES
from tests.stores import KEYS, publish, take_lease
from wire.records import Erase, RolloutPlan
from wire.store import Store

GOLDEN = Path(__file__).parents[1] / "wire" / "golden"


def found_in(store: Store) -> dict[str, FormatFinding]:
    return {finding.name: finding for finding in examine_store(store)}


def test_what_this_release_wrote_is_read_as_it_is(store: Store) -> None:
    publish(store, take_lease(store), 2)
    store.plans.write(RolloutPlan(revision=1, salt="", arms=()))
    store.plans.write_evidence(TALLIES, [JUDGED], max_judged=10)
    store.commands.append(Erase(digest="d" * 32))
    found = found_in(store)
    assert {finding.verdict for finding in found.values()} == {Readability.READ}
    names = {"plan", "manifest of version 1", "manifest of version 2", "tallies", "history", "commands"}
    assert found.keys() == names and found["tallies"].why == "1 judged events"


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("manifest_v*.json")))
def test_a_manifest_of_each_format_so_far_is_read(store: Store, raw: Any, key: Callable[..., str], name: str) -> None:
    body = (GOLDEN / f"{name}.json").read_bytes()
    raw.hset(key("manifest", 3), mapping={"body": body, "signature": KEYS.sign(body, key("manifest", 3))})
    raw.zadd(key("versions"), {"3": 3})
    finding = found_in(store)["manifest of version 3"]
    assert finding.verdict is Readability.READ and finding.format == f"lifelong-weights {name[10]}"


def test_a_plan_and_a_current_version_that_cannot_be_read_are_fatal_and_others_are_not(
    store: Store, raw: Any, key: Callable[..., str]
) -> None:
    publish(store, take_lease(store), 2)
    for number in (1, 2):
        body = raw.hget(key("manifest", number), "body").replace(b'"format_version":3', b'"format_version":9')
        raw.hset(key("manifest", number), mapping={"body": body, "signature": KEYS.sign(body, key("manifest", number))})
    raw.hset(key("plan"), mapping={"body": b"{}", "signature": KEYS.sign(b"{}", key("plan")), "revision": 1})
    found = found_in(store)
    fatal = {name for name, finding in found.items() if finding.is_fatal}
    assert fatal == {"plan", "manifest of version 2"}
    assert found["manifest of version 1"].verdict is Readability.UNREADABLE
    assert "'lifelong-weights' 9; this program reads lifelong-weights 3 and 4" in found["manifest of version 2"].why


def test_tallies_that_cannot_be_read_are_dropped(store: Store, raw: Any, key: Callable[..., str]) -> None:
    store.plans.write_evidence(TALLIES, [JUDGED], max_judged=10)
    body = b'{"offsets":7}'
    raw.hset(key("evidence"), mapping={"body": body, "signature": KEYS.sign(body, key("evidence"))})
    finding = found_in(store)["tallies"]
    assert finding.verdict is Readability.REWRITTEN and finding.rewrite is not None
    finding.rewrite()
    assert found_in(store) == {}
