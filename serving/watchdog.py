"""The watchdog of the model's thread: whether one batch takes too long, or every batch fails by a fault of the machine.

    engine --batch_begins, batch_ends, record--> Watchdog <--check-- the replica's health, from another thread

A batch of one long text may have many times the tokens of another, and takes as many times longer: 8,192 tokens take
5 s on one core of a Zen 4 where every head sees all of them, and as long again under each further encoder of the plan.
So the time that a batch may take grows with its tokens.

Rejected: one bound for every batch (a text that is as long as allowed would cost a replica, and then the next one).
"""

from collections.abc import Callable
from typing import Final

from serving.errors import Unhealthy

BATCH_TOKENS: Final = 1_024
"""The tokens of a batch that may take the time-out once."""


class Watchdog:
    """Watches batches. The engine's thread tells it of them; any thread may check."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy: tuple[float, float] | None = None  # since when, and how many times the time-out it may take
        self._faults_s: tuple[float, float] | None = None  # times of the first and the last fault in a row

    def batch_begins(self, num_tokens: int) -> None:
        self._busy = (self._clock(), max(1.0, num_tokens / BATCH_TOKENS))

    def batch_ends(self) -> None:
        self._busy = None

    def record(self, *, is_fault: bool) -> None:
        """Takes note whether the machine failed at a batch."""
        if not is_fault:
            self._faults_s = None
            return
        now_s = self._clock()
        first_s = self._faults_s[0] if self._faults_s else now_s
        self._faults_s = (first_s, now_s)

    @property
    def has_fault(self) -> bool:
        """Whether the machine failed at the last batch."""
        return self._faults_s is not None

    def check(self, timeout_s: float) -> None:
        """Raises Unhealthy where a batch takes more than `timeout_s` for each BATCH_TOKENS, or faults last longer."""
        busy = self._busy
        if busy is not None and self._clock() - busy[0] > timeout_s * busy[1]:
            raise Unhealthy(f"one batch has taken more than {timeout_s * busy[1]:g} s")
        first_s, last_s = self._faults_s or (0.0, 0.0)
        if last_s - first_s > timeout_s:
            raise Unhealthy(f"the model has failed for more than {timeout_s:g} s")
