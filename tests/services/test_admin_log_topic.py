"""Tests the audit chain in its topic: each page continues it, even after the broker has refused a record."""

import pytest

from services.admin_log import AdminLog, AdminWriter, admin_actions
from wire.bus import Bus
from wire.errors import SendFailed
from wire.keyring import parse
from wire.records import AdminAction
from wire.timestamps import now_ms

pytestmark = pytest.mark.live

KEYS = parse("a key for tests")


def writer(bus: Bus, source: str) -> AdminWriter:
    return AdminWriter(bus, KEYS, prefix="", source=source, now_ms=now_ms)


def test_one_page_continues_the_chain_of_another(bus: Bus) -> None:
    first = writer(bus, "a")
    first.write("pause", "asked", client="127.0.0.1")
    first.write("pause", "done", detail="d" * 9_000)
    writer(bus, "b").write("resume", "asked")
    records = list(admin_actions(bus))
    assert [(record.source, record.action, record.outcome) for record in records] == [
        ("a", "pause", "asked"),
        ("a", "pause", "done"),
        ("b", "resume", "asked"),
    ]
    assert list(AdminLog(KEYS, source="").breaks(records)) == []


def test_a_record_that_the_broker_did_not_take_leaves_no_gap(bus: Bus) -> None:
    page = writer(bus, "a")
    page.write("pause", "asked")
    with pytest.raises(SendFailed):
        page.write("pause", "done", client="c" * (10 << 20))  # larger than any record
    page.write("resume", "asked")
    records: list[AdminAction] = list(admin_actions(bus))
    assert [record.action for record in records] == ["pause", "resume"]
    assert list(AdminLog(KEYS, source="").breaks(records)) == []
