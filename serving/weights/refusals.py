"""What a replica did not take: why, until when it is left alone, and which blobs are damaged. Each reason is said once.

VersionRefused --add--> left alone for `retry_s`; one that lacks blobs only for `repair_s`, or until a notice
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from serving.errors import VersionRefused

PLAN = 0
"""Stands for the plan itself among the numbers of versions."""

REPAIR_S = 5.0
"""How long a version with damaged blobs is left alone. They may be repaired at any time, and the next look fetches no
others."""

MAX_DAMAGED = 64
"""Damaged blobs that are reported; the others are seen when these are repaired."""

log = structlog.get_logger("swap")


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: str
    until_s: float
    damaged: tuple[str, ...]


class Refusals:
    """The refused versions of one replica. One thread changes them; any thread may read `counts`."""

    def __init__(self, *, retry_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry_s = retry_s
        self._clock = clock
        self._by_number: dict[int, _Refusal] = {}
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """How many were refused, by reason. Refused again for the same reason, a version counts once."""
        return dict(self._counts)

    @property
    def damaged(self) -> tuple[str, ...]:
        """The digests of the blobs that versions in force lack, at most MAX_DAMAGED."""
        digests = {digest for refusal in self._by_number.values() for digest in refusal.damaged}
        return tuple(sorted(digests)[:MAX_DAMAGED])

    @property
    def lacking(self) -> set[int]:
        """The versions that lack blobs and nothing else."""
        return {number for number, refusal in self._by_number.items() if refusal.damaged}

    def add(self, number: int, error: VersionRefused) -> None:
        """Notes that version `number`, or the plan, was refused."""
        before = self._by_number.get(number)
        rest_s = min(self._retry_s, REPAIR_S) if error.damaged else self._retry_s
        self._by_number[number] = _Refusal(error.reason, self._clock() + rest_s, error.damaged)
        if before is None or before.reason != error.reason:
            self._counts[error.reason] += 1
            log.error("refused", version=number or "plan", reason=error.reason, detail=error.detail)

    def holds(self, number: int) -> bool:
        """Whether the version is left alone now."""
        refusal = self._by_number.get(number)
        return refusal is not None and self._clock() < refusal.until_s

    def look_again(self) -> None:
        """Something has changed in the store: what is damaged may have been repaired."""
        for number, refusal in self._by_number.items():
            if refusal.damaged:
                self._by_number[number] = _Refusal(refusal.reason, self._clock(), refusal.damaged)

    def clear(self, number: int) -> None:
        """The version was taken."""
        self._by_number.pop(number, None)

    def keep(self, numbers: Iterable[int]) -> None:
        """Forgets every version but these."""
        kept = {PLAN, *numbers}
        self._by_number = {number: refusal for number, refusal in self._by_number.items() if number in kept}
