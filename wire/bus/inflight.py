"""How much a publisher has sent that is not acknowledged yet: bounded in records and in bytes.

The client library has no bound on the memory of what it has not sent yet, so the bound is ours.
"""

import threading


class InFlight:
    """Room for `max_records` records of `max_bytes` bytes together. Any thread may call.

    One record is always let in where nothing is in flight, however large it is.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._num_records = 0
        self._num_bytes = 0

    def enter(self, num_bytes: int, timeout_s: float) -> bool:
        """Waits for room for a record of `num_bytes`; False where there is none after `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(num_bytes), timeout_s):
                return False
            self._num_records += 1
            self._num_bytes += num_bytes
            return True

    def leave(self, num_bytes: int) -> None:
        """A record of `num_bytes` is settled, or was not taken."""
        with self._changed:
            self._num_records -= 1
            self._num_bytes -= num_bytes
            self._changed.notify_all()

    def _has_room(self, num_bytes: int) -> bool:
        if self._num_records == 0:
            return True
        return self._num_records < self._max_records and self._num_bytes + num_bytes <= self._max_bytes
