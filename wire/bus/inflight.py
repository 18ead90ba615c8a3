"""Back-pressure: bounds the records, and their bytes, that a publisher has sent and that are not acknowledged yet.

The client library does not bound the memory of its send buffer, so we do.
"""

import threading


class InFlight:
    """A counting semaphore over `max_records` records of together `max_bytes` bytes. Any thread may call.

    Where nothing is in flight, one record is always admitted, however large it is.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._num_records = 0
        self._num_bytes = 0

    def enter(self, num_bytes: int, timeout_s: float) -> bool:
        """Waits until a record of `num_bytes` is admitted; False where it is not after `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(num_bytes), timeout_s):
                return False
            self._num_records += 1
            self._num_bytes += num_bytes
            return True

    def leave(self, num_bytes: int) -> None:
        """Releases the room of a record of `num_bytes` that was acknowledged, has failed or was not accepted."""
        with self._changed:
            self._num_records -= 1
            self._num_bytes -= num_bytes
            self._changed.notify_all()

    def _has_room(self, num_bytes: int) -> bool:
        if self._num_records == 0:
            return True
        return self._num_records < self._max_records and self._num_bytes + num_bytes <= self._max_bytes
