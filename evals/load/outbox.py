"""Sends the demo's records, and remembers the first failure: a run with a missing record has no valid score."""

from wire.bus import Publisher
from wire.records import Event, Feedback


class LoadOutbox:
    """A publisher whose failures are noticed. Any thread may call."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._failed: Exception | None = None

    def send(self, record: Event | Feedback) -> None:
        """Sends a record. Blocks while too many records are unacknowledged."""
        self._publisher.send(record, self._acknowledged)

    def check(self) -> None:
        """Raises the error of a record that was sent earlier and was not acknowledged."""
        if self._failed is not None:
            raise self._failed

    def _acknowledged(self, error: Exception | None) -> None:
        if error is not None and self._failed is None:
            self._failed = error
