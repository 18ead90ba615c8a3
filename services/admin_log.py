"""The topic of audits: what operators did through a page, as a chain of records, each with the code of the one before.

    a call that changes something --AdminWriter.write: AdminLog.seal--> audit.v1
    admin_actions(bus): all records, from the beginning --AdminLog.breaks--> what was done to the chain

None can be changed or taken out unnoticed. A code is the signature of the record with the code before it. The key of a
record that is older than a rotation may be retired; then its public key still tells that the record is ours. A shared
secret makes codes by HMAC-SHA256 under a key that is derived from it; those of one that is removed cannot be checked
any more.

Pages that write at the same time may continue the same record: the chain then forks, and is whole. What retention has
removed of its beginning, and what was cut off at its end, cannot be seen.
"""

import threading
from collections.abc import Callable, Iterable, Iterator

import msgspec

from wire.bus import Bus, Publisher, every_record
from wire.errors import BadSignature
from wire.keyring import Key, KeyRing, Kind, derived
from wire.records import AdminAction, topic_name


class AdminLog:
    """The end of the chain. Verbs: follow, seal, breaks. Not for several threads at once."""

    def __init__(self, ring: KeyRing, *, source: str, prefix: str = "") -> None:
        """`prefix` is that of the service's topics: a record of one service is none of another."""
        self._ring = KeyRing(tuple(map(_key_of_the_log, ring.keys)))
        self._topic = topic_name(prefix, AdminAction)
        self._source = source
        self._number = 0
        self._last = ""

    def follow(self, records: Iterable[AdminAction]) -> None:
        """Continues after the last one of these that is ours."""
        for record in records:
            if self._is_ours(record):
                self._last = record.code

    def seal(self, action: str, outcome: str, *, detail: str, client: str, time_ms: int) -> AdminAction:
        """Returns the next record of the chain. Raises CannotSign."""
        self._number += 1
        record = AdminAction(
            action=action,
            outcome=outcome,
            detail=detail,
            client=client,
            number=self._number,
            source=self._source,
            time_ms=time_ms,
            previous=self._last,
        )
        self._last = self._ring.sign(_body_of(record), self._topic)
        return msgspec.structs.replace(record, code=self._last)

    def breaks(self, records: Iterable[AdminAction]) -> Iterator[str]:
        """Yields what is wrong with the chain, in words; nothing where it is whole. `records` are in their order."""
        codes = {""}
        is_first = True
        for record in records:
            if not self._is_ours(record):
                yield f"{record.message_id} ({record.action}) was changed, or not written by us"
                continue
            if record.previous not in codes and not is_first:
                yield f"a record before {record.message_id} ({record.action}) is missing"
            is_first = False
            codes.add(record.code)

    def _is_ours(self, record: AdminAction) -> bool:
        try:
            self._ring.verify(_body_of(record), record.code.encode(), self._topic)
        except BadSignature:
            return False
        return True


def _key_of_the_log(key: Key) -> Key:
    """Returns the key with which records are signed, or verified: also one that is retired elsewhere."""
    if key.kind is Kind.SHARED:
        return Key(Kind.SHARED, derived(key.value, b"lifelong admin action v1"))
    return key.of_kind(Kind.PUBLIC) if key.kind is Kind.RETIRED else key


def _body_of(record: AdminAction) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(record, code=""), order="deterministic")


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
