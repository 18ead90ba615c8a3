"""Sends the demo's records and remembers the first that the broker did not take: a run with a hole scores nothing."""

from wire.bus import Publisher
from wire.records import Event, Feedback


class LoadOutbox:
    """A publisher whose failures are noticed. Any thread may call. Verbs: send, check."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._failed: Exception | None = None

    def send(self, record: Event | Feedback) -> None:
        """Waits while too many records are unacknowledged."""
        self._publisher.send(record, self._acknowledged)

    def check(self) -> None:
        """Raises what went wrong with a record that was sent earlier."""
        if self._failed is not None:
            raise self._failed

    def _acknowledged(self, error: Exception | None) -> None:
        if error is not None and self._failed is None:
            self._failed = error
