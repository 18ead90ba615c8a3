"""The versions that a replica refused: why, until when they are not tried again, and which blobs are damaged.

    VersionRefused --add--> not tried for `retry_s`; one that only lacks blobs, for REPAIR_S or until a notice

Each reason is logged once. REASONS has the codes of errors; `serving/weights/loader.py` and
`serving/weights/load_guard.py` have further ones.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from model.errors import BadBlob, BadTokens, MissingWeight, NonFinite, UnreadableInput, WrongConfig, WrongShape
from serving.errors import VersionRefused
from wire.errors import BadSignature, BlobCorrupt, NotFound, UnknownFormat, UnknownKey

REASONS: Final[Mapping[type[Exception], str]] = {
    NotFound: "not_found",
    BadSignature: "bad_signature",
    UnknownKey: "unknown_key",
    UnknownFormat: "unknown_format",
    BlobCorrupt: "blob_corrupt",
    WrongConfig: "wrong_config",
    WrongShape: "wrong_shape",
    MissingWeight: "missing_weight",
    UnreadableInput: "bad_probe",
    NonFinite: "not_finite",
    BadBlob: "bad_blob",
    BadTokens: "bad_probe",
    MemoryError: "load_failed",
}
"""The code of each reason not to take a version. Any other error is a mistake of ours."""

PLAN = 0
"""Stands for the plan itself among the numbers of versions."""

REPAIR_S = 5.0
"""Time for which a version with damaged blobs is not tried again. They may be repaired at any time, and the next
attempt fetches no others."""

MAX_DAMAGED = 64
"""Damaged blobs that are reported at most; the others are reported when these are repaired."""

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
        """The number of refused versions, by reason. A version that is refused again for the same reason counts
        once."""
        return dict(self._counts)

    @property
    def damaged(self) -> tuple[str, ...]:
        """The digests of the blobs that versions in force lack, at most MAX_DAMAGED."""
        digests: set[str] = set()
        for refusal in self._by_number.values():
            digests.update(refusal.damaged)
        return tuple(sorted(digests)[:MAX_DAMAGED])

    @property
    def lacking(self) -> set[int]:
        """The versions that lack blobs and have no other fault."""
        return {number for number, refusal in self._by_number.items() if refusal.damaged}

    def add(self, number: int, error: VersionRefused) -> None:
        """Notes that version `number`, or the plan, was refused."""
        previous = self._by_number.get(number)
        rest_s = min(self._retry_s, REPAIR_S) if error.damaged else self._retry_s
        self._by_number[number] = _Refusal(error.reason, self._clock() + rest_s, error.damaged)
        if previous is None or previous.reason != error.reason:
            self._counts[error.reason] += 1
            log.error("refused", version=number or "plan", reason=error.reason, detail=error.detail)

    def holds(self, number: int) -> bool:
        """Whether the version must not be tried now."""
        refusal = self._by_number.get(number)
        return refusal is not None and self._clock() < refusal.until_s

    def retry_damaged(self) -> None:
        """Lets versions with damaged blobs be tried at once: a change of the store may be their repair."""
        for number, refusal in self._by_number.items():
            if refusal.damaged:
                self._by_number[number] = _Refusal(refusal.reason, self._clock(), refusal.damaged)

    def clear(self, number: int) -> None:
        """Forgets the refusal of a version that was taken."""
        self._by_number.pop(number, None)

    def keep(self, numbers: Iterable[int]) -> None:
        """Forgets every version but these."""
        kept = {PLAN, *numbers}
        self._by_number = {number: refusal for number, refusal in self._by_number.items() if number in kept}


@contextmanager
def refusing() -> Iterator[None]:
    """Turns every error of a version into VersionRefused, with its stable code."""
    try:
        yield
    except tuple(REASONS) as error:
        raise VersionRefused(REASONS[type(error)], str(error)) from error


@contextmanager
def computing() -> Iterator[None]:
    """Turns what torch raises for weights that this machine cannot hold or compute into VersionRefused."""
    try:
        yield
    except RuntimeError as error:
        raise VersionRefused("load_failed", str(error)) from error
