"""A broker in place of the real one, which refuses, delays or loses what a test says, and records to send to it."""

import threading
import time
from collections.abc import Callable

from serving.kafka.outbox import OutboxBounds
from wire.backoff import Backoff
from wire.errors import BusUnavailable, WireError
from wire.message import Place
from wire.records import DeadLetter, TopicRecord

PLACE = Place(topic="events.v1", partition=2, offset=7)
BOUNDS = OutboxBounds(max_items=4, max_bytes=1 << 20, backoff=Backoff(first_s=0.01, longest_s=2.0))


def refusal(*, payload: bytes = b"") -> DeadLetter:
    return DeadLetter(reason="empty", detail="no value", topic="t", partition=0, offset=1, payload=payload)


LATE_S = 0.02
"""Time after which a record fails."""

OnAck = Callable[[Exception | None], None]


class FakeBroker:
    """A fake publisher: `says` returns the error of a record, None where it is accepted.

    BusUnavailable is raised at once, as by a client that cannot accept the record. Other errors come late, in place of
    the acknowledgement. tests/wire/bus/test_publisher_contract.py holds that a real publisher does the same.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[TopicRecord, float]] = []
        self.num_tried = 0
        self.says: Callable[[TopicRecord], WireError | None] = lambda record: None
        self.hold: list[OnAck] | None = None  # acknowledgements that the test gives
        self._reports: list[threading.Timer] = []

    def open(self) -> "FakeBroker":
        return self

    def prepare(self, record_type: type[TopicRecord]) -> None:
        """It has every topic."""

    def send(self, record: TopicRecord, on_ack: OnAck) -> None:
        self.num_tried += 1
        error = self.says(record)
        if isinstance(error, BusUnavailable):
            raise error
        if error is None:
            self.sent.append((record, time.monotonic()))
        if self.hold is not None:
            self.hold.append(on_ack)
            return
        report = threading.Timer(LATE_S if error else 0.0, on_ack, [error])
        self._reports.append(report)
        report.start()

    def close(self) -> None:
        for report in self._reports:
            report.join()

    @property
    def names(self) -> list[str]:
        return [record.message_id for record, _ in self.sent]
