"""Reads topics during a run. After an outage of the broker, or a new address, it resumes after the last record."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from evals.load.sender import PAUSE_S
from wire.bus import Bus, Received
from wire.config import BusConfig
from wire.errors import WireError
from wire.records import LogMark, TopicRecord

POLL_MS = 100


class Reader:
    """Calls `record` with each record, from `offsets` on, in a thread of its own. Any thread may close it.

    `config` returns the current settings of the broker. If `is_patient`, fetches wait longer, which leaves more
    processor time to the service.
    """

    def __init__(
        self,
        config: Callable[[], BusConfig],
        record_types: Sequence[type[TopicRecord]],
        record: Callable[[Received[Any]], None],
        *,
        offsets: Mapping[str, int] | None = None,
        is_patient: bool = False,
    ) -> None:
        self._config = config
        self._record_types = record_types
        self._record = record
        self._offsets: Mapping[str, int] = offsets or {}
        self._marks: Mapping[str, LogMark] = {}
        self._is_patient = is_patient
        self._closed = threading.Event()

    def run(self) -> None:
        """Reads until it is closed.

        consumes: records of the topics; produces: what `record` does; waits for: the broker
        unblocked by: a record, `close`, an address that has changed
        """
        while not self._closed.is_set():
            config = self._config()
            with closing(Bus(config, "load-reader")) as bus:
                try:
                    self._follow(bus, config)
                except WireError:
                    self._closed.wait(PAUSE_S)

    def close(self) -> None:
        self._closed.set()

    def _follow(self, bus: Bus, config: BusConfig) -> None:
        """Reads while the address of the broker stays the same."""
        follower = bus.follow(self._record_types, self._offsets, marks=self._marks, is_patient=self._is_patient)
        while not self._closed.is_set() and self._config() == config:
            followed = follower.poll(POLL_MS)
            for received in followed.received:
                self._record(received)
            self._offsets = followed.offsets
            self._marks = followed.marks
