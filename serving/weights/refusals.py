"""The versions that a replica must not load: versions that were refused, and encoders that may kill the process.

    VersionRefused --Refusals.add--> the version is not tried for `retry_s`
                                     if only blobs are damaged or missing: for REPAIR_S, or until a notice of the store

    LoadGuard.loading: a version whose encoder this process does not hold
        -> did loading it kill processes here?          killed_while_loading
        -> is there memory for it?                      no_memory
        -> is it this replica's turn?                   NotYet: another replica tries it first
        -> noted while it is loaded (`serving/deaths.py`)

Each reason to refuse a version has a stable code, and is logged once.

Replicas load a new encoder one after another. A replica that answers events loads it only after another replica has
loaded it, or when its own turn comes. The replicas that report take turns in the order of their names, TURN_S seconds
each. So an encoder that kills a process stops only one replica at a time, and after two deaths no replica of that
machine loads it. A replica without weights does not wait for its turn.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import structlog

from model.errors import BadBlob, BadTokens, MissingWeight, NonFinite, UnreadableInput, WrongConfig, WrongShape
from serving.deaths import Deaths, compute_digest
from serving.errors import NotYet, VersionRefused
from wire.errors import BadMessage, BadSignature, BlobCorrupt, NotFound, UnknownFormat, UnknownKey
from wire.plugins import PluginError
from wire.records import ReplicaReport, WeightManifest

REASONS: Final[Mapping[type[Exception], str]] = {
    NotFound: "not_found",
    BadSignature: "bad_signature",
    UnknownKey: "unknown_key",
    UnknownFormat: "unknown_format",
    BlobCorrupt: "blob_corrupt",
    WrongConfig: "wrong_config",
    PluginError: "wrong_config",
    WrongShape: "wrong_shape",
    MissingWeight: "missing_weight",
    UnreadableInput: "bad_probe",
    BadMessage: "bad_probe",
    NonFinite: "not_finite",
    BadBlob: "bad_blob",
    BadTokens: "bad_probe",
    MemoryError: "load_failed",
}
"""The stable code of each error of a version. Any other error is a mistake in our code."""

PLAN = 0
"""The key of the plan's own refusal, among the numbers of versions."""

REPAIR_S = 5.0
"""Time in seconds after which a version with damaged blobs is tried again.

It is short, because the blobs may be repaired at any time, and the next attempt fetches only these blobs.
"""

MAX_DAMAGED = 64
"""Most damaged blobs in a report. Further ones are reported after these are repaired."""

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
        """The number of refused versions, by reason. A version refused again for the same reason counts once."""
        return dict(self._counts)

    @property
    def damaged(self) -> tuple[str, ...]:
        """The digests of damaged or missing blobs of the refused versions, at most MAX_DAMAGED."""
        digests: set[str] = set()
        for refusal in self._by_number.values():
            digests.update(refusal.damaged)
        return tuple(sorted(digests)[:MAX_DAMAGED])

    @property
    def damaged_versions(self) -> set[int]:
        """The versions that were refused only because blobs are damaged or missing."""
        return {number for number, refusal in self._by_number.items() if refusal.damaged}

    def add(self, number: int, error: VersionRefused) -> None:
        """Records that version `number`, or the plan (PLAN), was refused."""
        previous = self._by_number.get(number)
        rest_s = min(self._retry_s, REPAIR_S) if error.damaged else self._retry_s
        self._by_number[number] = _Refusal(error.reason, self._clock() + rest_s, error.damaged)
        if previous is None or previous.reason != error.reason:
            self._counts[error.reason] += 1
            log.error("version_refused", version=number or "plan", reason=error.reason, detail=error.detail)

    def must_wait(self, number: int) -> bool:
        """Whether the version must not be tried now."""
        refusal = self._by_number.get(number)
        return refusal is not None and self._clock() < refusal.until_s

    def retry_damaged(self) -> None:
        """Allows versions with damaged blobs to be tried at once, since a change of the store may be their repair."""
        for number, refusal in self._by_number.items():
            if refusal.damaged:
                self._by_number[number] = _Refusal(refusal.reason, self._clock(), refusal.damaged)

    def clear(self, number: int) -> None:
        """Forgets the refusal of a version that was loaded."""
        self._by_number.pop(number, None)

    def keep(self, numbers: Iterable[int]) -> None:
        """Forgets the refusals of all versions except `numbers`. The plan's refusal stays."""
        kept = {PLAN, *numbers}
        self._by_number = {number: refusal for number, refusal in self._by_number.items() if number in kept}


@contextmanager
def map_load_errors() -> Iterator[None]:
    """Maps the errors of REASONS in its block to VersionRefused, with their stable codes."""
    try:
        yield
    except tuple(REASONS) as error:
        raise VersionRefused(REASONS[type(error)], str(error)) from error


@contextmanager
def map_compute_errors() -> Iterator[None]:
    """Maps torch's errors in its block to VersionRefused: this machine cannot hold or compute the weights."""
    try:
        yield
    except RuntimeError as error:
        raise VersionRefused("load_failed", str(error)) from error


TURN_S: Final = 10.0
"""Time in seconds that each replica has to load an encoder before the next replica tries it.

It equals the time for which a dead replica's report is kept.
"""

COPIES: Final = 2
"""Copies of a version's weights in memory while it is loaded: the stored and the packed form."""

KILLED: Final = "killed_while_loading"
NO_MEMORY: Final = "no_memory"

CGROUP: Final = Path("/sys/fs/cgroup")


class LoadGuard:
    """Decides when this replica may load versions of one task. Only the swap's thread calls it.

    `reports` returns the reports of all replicas of the task. `is_answering` returns whether this replica has weights.
    """

    def __init__(
        self,
        replica: str,
        deaths: Deaths,
        reports: Callable[[], Sequence[ReplicaReport]],
        is_answering: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        memory_left: Callable[[], int] | None = None,
    ) -> None:
        self._replica = replica
        self._deaths = deaths
        self._reports = reports
        self._is_answering = is_answering
        self._clock = clock
        self._memory_left = memory_left or memory_left_bytes
        # The version that waits for this replica's turn, and since when.
        self._waiting: tuple[int, float] = (0, 0.0)

    @contextmanager
    def loading(self, manifest: WeightManifest, encoder_key: str) -> Iterator[None]:
        """Guards the loading, in its block, of a version whose encoder this process does not have yet. Notes it until
        the block ends.

        Raises VersionRefused if the version must not be loaded, and NotYet if another replica must try it first. Raises
        StoreUnavailable.
        """
        digest = compute_digest(f"encoder {encoder_key}")
        if self._deaths.is_refused(digest):
            raise VersionRefused(KILLED, "the process was killed twice while it loaded this encoder")
        needed = COPIES * manifest.num_bytes
        if needed > (left := self._memory_left()):
            raise VersionRefused(NO_MEMORY, f"loading takes {needed >> 20} MiB, but only {left >> 20} MiB are free")
        if self._is_answering() and not self._is_turn(manifest.version):
            raise NotYet(manifest.version)
        with self._deaths.open([digest], is_sole=True):
            yield
        self._deaths.clear([digest])

    def _is_turn(self, number: int) -> bool:
        """Whether another replica has loaded the version, or all replicas before this one have had their turns."""
        now_s = self._clock()
        if self._waiting[0] != number:
            self._waiting = (number, now_s)
            log.info("encoder_is_new", version=number)
        reports = self._reports()
        if any(str(number) in report.model_bytes for report in reports):
            return True
        num_before = len({report.replica for report in reports if report.replica < self._replica})
        return now_s - self._waiting[1] >= TURN_S * num_before


def memory_left_bytes(cgroup: Path = CGROUP) -> int:
    """Returns the bytes that this process can still allocate: what is left of the machine's memory or of its
    container's limit.

    It is the smaller of the two. The container's limit is read from its cgroup (version 2).
    """
    left = int(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        cache = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())["inactive_file"]
    except (OSError, ValueError, KeyError):
        return left
    return min(left, limit - used + int(cache))
