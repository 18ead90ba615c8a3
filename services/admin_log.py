"""The audit log: a hash chain of signed records of what operators did, in a topic.

    a call that changes something --AdminWriter.write: AdminLog.seal--> audit.v1
    admin_actions(bus): all records, from the beginning --AdminLog.breaks--> changed and missing records

Each record holds the code of the record before it, and its own code is a signature over both. So no record can be
changed or removed unnoticed, except at the ends: nothing shows what retention has removed at the beginning of the
chain, or what was cut off at its end.

**Keys.** A rotation may retire the key of an older record. The public key stays and still verifies the record. A shared
secret makes codes by HMAC-SHA256 under a key that is derived from the secret. When the secret is removed, these codes
cannot be verified any more.

**Forks.** Pages that write at the same time may continue the same record. The chain then forks, which is not an error.
"""

import threading
from collections.abc import Callable, Iterable, Iterator

import msgspec

from wire.bus import Bus, Publisher, read_all_records
from wire.errors import BadSignature
from wire.keyring import Key, KeyRing, Kind, derive_key
from wire.records import AdminAction, topic_name


class AdminLog:
    """The end of the chain. Verbs: follow, seal, breaks. Not thread-safe."""

    def __init__(self, ring: KeyRing, *, source: str, prefix: str = "") -> None:
        """`prefix` is the prefix of the service's topics. A code covers it, so no service accepts another's record."""
        self._ring = KeyRing(tuple(map(_derive_log_key, ring.keys)))
        self._topic = topic_name(prefix, AdminAction)
        self._source = source
        self._number = 0
        self._last = ""

    def follow(self, records: Iterable[AdminAction]) -> None:
        """Sets the end of the chain to the last of `records` that our keys verify."""
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
        self._last = self._ring.sign(_encode_body(record), self._topic)
        return msgspec.structs.replace(record, code=self._last)

    def breaks(self, records: Iterable[AdminAction]) -> Iterator[str]:
        """Yields a sentence for each break of the chain; nothing for a whole chain. `records` are in topic order."""
        codes = {""}
        is_first = True
        for record in records:
            if not self._is_ours(record):
                yield f"{record.message_id} ({record.action}) was changed, or was not signed with our keys"
                continue
            if record.previous not in codes and not is_first:
                yield f"a record before {record.message_id} ({record.action}) is missing"
            is_first = False
            codes.add(record.code)

    def _is_ours(self, record: AdminAction) -> bool:
        try:
            self._ring.verify(_encode_body(record), record.code.encode(), self._topic)
        except BadSignature:
            return False
        return True


def _derive_log_key(key: Key) -> Key:
    """Returns the key that signs and verifies records. A retired key becomes a public key, which still verifies."""
    if key.kind is Kind.SHARED:
        return Key(Kind.SHARED, derive_key(key.value, b"lifelong admin action v1"))
    return key.of_kind(Kind.PUBLIC) if key.kind is Kind.RETIRED else key


def _encode_body(record: AdminAction) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(record, code=""), order="deterministic")


TIMEOUT_S = 10.0

MAX_DETAIL_CHARS = 500


def admin_actions(bus: Bus) -> Iterator[AdminAction]:
    """Yields every record of the topic in order, each once: a page that retries may have sent a record twice."""
    seen: set[str] = set()
    for record in read_all_records(bus, [AdminAction]):
        if record.code not in seen:
            seen.add(record.code)
            yield record


class AdminWriter:
    """Appends records to the chain in the topic. Thread-safe. The first write reads the topic to find the end."""

    def __init__(self, bus: Bus, ring: KeyRing, *, prefix: str, source: str, now_ms: Callable[[], int]) -> None:
        self._bus = bus
        self._log = AdminLog(ring, prefix=prefix, source=source)
        self._now_ms = now_ms
        self._lock = threading.Lock()
        # None if the end of the chain in the topic is not known: at the start, and after a write has failed.
        self._publisher: Publisher | None = None

    def write(self, action: str, outcome: str, *, detail: str = "", client: str = "") -> None:
        """Appends a record; returns when the broker has it. Raises WireError if the broker does not accept it."""
        with self._lock:
            publisher = self._publisher or self._open_publisher()
            record = self._log.seal(
                action, outcome, detail=detail[:MAX_DETAIL_CHARS], client=client, time_ms=self._now_ms()
            )
            self._publisher = None
            publisher.send_all([record], TIMEOUT_S)
            self._publisher = publisher

    def _open_publisher(self) -> Publisher:
        self._log.follow(admin_actions(self._bus))
        return self._bus.publisher()
