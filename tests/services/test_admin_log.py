"""Tests that the audit chain is whole as it is written, and that every change breaks it."""

import msgspec
import pytest

from services.admin_log import AdminLog
from wire.keyring import parse
from wire.records import AdminAction

KEYS = parse("a key for tests")


def chain(num: int, *, log: AdminLog | None = None) -> list[AdminAction]:
    log = log or AdminLog(KEYS, source="page")
    return [log.seal("promote", "done", detail=f"{n}", client="127.0.0.1", time_ms=n) for n in range(num)]


def breaks(records: list[AdminAction]) -> list[str]:
    return list(AdminLog(KEYS, source="").breaks(records))


def test_a_chain_is_whole_also_without_its_beginning_and_after_a_restart() -> None:
    records = chain(3)
    again = AdminLog(KEYS, source="page again")
    again.follow(records)
    records += chain(2, log=again)
    assert breaks(records) == breaks(records[2:]) == breaks([]) == []
    assert records[3].previous == records[2].code


def test_two_pages_may_continue_the_same_record() -> None:
    records = chain(2)
    logs = [AdminLog(KEYS, source=name) for name in "ab"]
    for log in logs:
        log.follow(records)
    first, second = (chain(2, log=log) for log in logs)
    assert breaks([*records, first[0], second[0], first[1], second[1]]) == []


@pytest.mark.parametrize("field", ["action", "outcome", "detail", "client", "previous", "code", "time_ms"])
def test_a_change_breaks_it(field: str) -> None:
    records = chain(3)
    changed = 99 if field == "time_ms" else "changed"
    records[1] = msgspec.structs.replace(records[1], **{field: changed})
    assert breaks(records) == [
        "page/2 (changed) was changed, or was not signed with our keys"
        if field == "action"
        else "page/2 (promote) was changed, or was not signed with our keys",
        "a record before page/3 (promote) is missing",
    ]


def test_a_record_that_was_taken_out_is_missed() -> None:
    records = chain(4)
    assert breaks([*records[:1], *records[2:]]) == ["a record before page/3 (promote) is missing"]


def test_another_key_writes_no_record_of_ours_and_is_not_followed() -> None:
    stranger = chain(1, log=AdminLog(parse("another key"), source="page"))
    assert breaks(stranger) == ["page/1 (promote) was changed, or was not signed with our keys"]
    log = AdminLog(KEYS, source="page")
    log.follow(stranger)
    assert chain(1, log=log)[0].previous == ""
