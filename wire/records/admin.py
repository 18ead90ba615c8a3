"""What operators did through the page: the record of the topic of audits.

Rejected: the log of the process (whoever can write the file can change what is in it, and each machine has its own).
"""

from typing import ClassVar, Final

from wire.records.record import Record

ADMIN: Final = "admin"
"""The key of every record of this topic: all lie in one partition, in the order in which they were written."""


class AdminAction(Record, frozen=True, kw_only=True):
    """A call that changes something, by `client`, and what became of it: `asked`, then `done`, `failed` or `refused`.

    `number` counts the records of `source`, a page, from 1. `previous` is the code of the record before this one, as
    far as that page knew ("" for the first of all), and `code` proves that one of ours wrote this record after that
    one: see `wire.admin_log`.
    """

    TOPIC: ClassVar[str] = "audit.v1"
    TYPE: ClassVar[str] = "lifelong.adminaction.v1"

    action: str
    outcome: str
    detail: str = ""
    client: str = ""
    number: int = 0
    source: str = ""
    time_ms: int = 0
    previous: str = ""
    code: str = ""

    @property
    def message_id(self) -> str:
        return f"{self.source}/{self.number}"

    @property
    def entity(self) -> str:
        return ADMIN
