"""The topic of audits: what operators did through a page, written as one chain and read from its beginning.

a call that changes something --AdminWriter.write--> audit.v1 --admin_actions--> AdminLog.breaks: is it whole?
"""

import threading
from collections.abc import Callable, Iterator

from wire.admin_log import AdminLog
from wire.bus import Bus, Publisher
from wire.bus.scan import every_record
from wire.keyring import KeyRing
from wire.records import AdminAction

TIMEOUT_S = 10.0

MAX_DETAIL_CHARS = 500


def admin_actions(bus: Bus) -> Iterator[AdminAction]:
    """Yields every record in its order, each once, though a page may have sent one twice."""
    seen: set[str] = set()
    for record in every_record(bus, [AdminAction]):
        if record.code not in seen:
            seen.add(record.code)
            yield record


class AdminWriter:
    """Continues the chain in the topic. Any thread may write. It reads the topic before its first record."""

    def __init__(self, bus: Bus, ring: KeyRing, *, prefix: str, source: str, now_ms: Callable[[], int]) -> None:
        self._bus = bus
        self._log = AdminLog(ring, prefix=prefix, source=source)
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None  # None: the end of the chain is not known

    def write(self, action: str, outcome: str, *, detail: str = "", client: str = "") -> None:
        """Returns when the broker has the record. Raises WireError where it does not take it."""
        with self._lock:
            publisher = self._publisher or self._opened()
            record = self._log.seal(
                action, outcome, detail=detail[:MAX_DETAIL_CHARS], client=client, time_ms=self._now_ms()
            )
            self._publisher = None
            publisher.send_all([record], TIMEOUT_S)
            self._publisher = publisher

    def _opened(self) -> Publisher:
        self._log.follow(admin_actions(self._bus))
        return self._bus.publisher()
