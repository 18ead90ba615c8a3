"""The cost of a swap of weights: the stall of the first batch after it, measured in the engine's thread.

The stall is `start - max(previous end, ready)`: the time for which work was ready and the model idle, from the end of
the batch before, or from when the new batch was ready where that is later, to the start of its forward. It includes all
that the swap causes (waiting for the interpreter while the swap prepares, freeing the old weights), but also what every
pause has. So the pause before the last batch without a swap is reported beside it. A swap that no batch waited for has
a stall and a pause of 0.
"""

import threading
from collections import deque
from dataclasses import dataclass

NUM_STALLS = 64
"""Swaps whose stalls are kept; a report is made far more often."""


@dataclass(frozen=True, slots=True)
class StallReport:
    """The number of swaps before the last batch, and the stalls of the last NUM_STALLS of them, oldest first.

    `pauses_ms[i]` is the pause before the last batch without a swap that came before swap i.
    """

    num: int
    stalls_ms: tuple[float, ...]
    pauses_ms: tuple[float, ...]


class SwapStalls:
    """Measures the stalls. The engine's thread calls `batch_begins` and `batch_ends`; any thread may read the rest."""

    def __init__(self) -> None:
        self.seen_number = 0
        """The number of the active versions under which a batch last began."""
        self._ended_s = 0.0
        self._pause_ms = 0.0
        self._num = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=NUM_STALLS)  # stall and pause in ms
        self._num_begun = 0
        self._has_begun = threading.Condition()  # a batch

    @property
    def report(self) -> StallReport:
        stalls_ms, pauses_ms = zip(*self._recent, strict=True) if self._recent else ((), ())
        return StallReport(self._num, stalls_ms, pauses_ms)

    def batch_begins(self, number: int | None, *, ready_s: float, now_s: float) -> None:
        """A batch that was ready at `ready_s` begins at `now_s`, under the active versions `number` (None: none)."""
        pause_ms = 1e3 * max(0.0, now_s - max(self._ended_s, ready_s))
        if number is None or number == self.seen_number:
            self._pause_ms = pause_ms
        else:
            swaps = [(0.0, 0.0)] * (number - self.seen_number - 1)  # no batch waited for the swaps before the last one
            if self.seen_number:  # the first weights of all replaced nothing
                swaps.append((pause_ms, self._pause_ms))
            self._recent.extend(swaps)
            self._num += len(swaps)
        with self._has_begun:
            self.seen_number = number or self.seen_number
            self._num_begun += 1
            self._has_begun.notify_all()

    def await_number(self, number: int, timeout_s: float) -> bool:
        """Waits until a batch has begun under `number` or later ones; returns False after `timeout_s` seconds."""
        with self._has_begun:
            return self._has_begun.wait_for(lambda: self.seen_number >= number, timeout_s)

    def await_next(self, timeout_s: float) -> bool:
        """Waits until one more batch has begun; returns False after `timeout_s` seconds."""
        with self._has_begun:
            num_before = self._num_begun
            return self._has_begun.wait_for(lambda: self._num_begun > num_before, timeout_s)

    def batch_ends(self, now_s: float) -> None:
        self._ended_s = now_s
