"""A message of Kafka and the place where it lies: what `wire.envelope` reads records from and writes them to."""

from contextlib import suppress
from dataclasses import dataclass

MAX_SHOWN_CHARS = 60  # how much of what a client sent an error message repeats


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A record as Kafka carries it. `timestamp_ms` is the broker's, and only messages that were read have it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = 0

    def texts_of(self, names: frozenset[str], *, max_bytes: int) -> tuple[tuple[str, str], ...]:
        """Returns the headers with these names that are texts of at most `max_bytes` bytes; others are left out."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            if name in names and value is not None and len(value) <= max_bytes:
                with suppress(UnicodeDecodeError):
                    found[name] = value.decode()
        return tuple(found.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a message lies: `str(place)` is `events.v1/3/1042@GqQ1WfZsQpKfWzBLm_4nyg`.

    `log` is the id of the topic's log, so that no message of a topic that was recreated has the same place as one of
    the topic before it. It is empty where the broker does not tell.
    """

    topic: str
    partition: int
    offset: int
    log: str = ""

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}/{self.offset}"
        return f"{place}@{self.log}" if self.log else place


def shown(text: str) -> str:
    """Returns the beginning of what a client sent, with escapes, for an error message or a log."""
    return repr(text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}...")
