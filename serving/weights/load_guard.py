"""Loads of encoders that may end the process: too large ones, and ones that crash.

    a version whose encoder this process does not hold
        -> did loading it kill processes here?          killed_while_loading
        -> is there memory for it?                      no_memory
        -> is it this replica's turn?                   NotYet: another replica tries it first
        -> noted while it is loaded (`serving/deaths.py`)

A replica that answers loads a new encoder only when another one has loaded it, or when its own turn has come: by the
order of the names of the replicas that report, one each TURN_S. So an encoder that kills a process takes one replica at
a time, and after two deaths no replica of that machine loads it. A replica that answers nothing yet waits for nobody.

Rejected: a lease for the first load (replicas may write nothing to the store but their own report, and one that died
would hold the lease).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import structlog

from serving.deaths import Deaths, digest_of
from serving.errors import NotYet, VersionRefused
from wire.records import ReplicaReport, WeightManifest

TURN_S: Final = 10.0
"""Time that each replica has for the load before the next one tries it: as long as the report of a dead one is kept."""

COPIES: Final = 2
"""How many times the bytes of a version are in memory while it is loaded: as stored, and as packed."""

KILLED: Final = "killed_while_loading"
NO_MEMORY: Final = "no_memory"

CGROUP: Final = Path("/sys/fs/cgroup")

log = structlog.get_logger("swap")


class LoadGuard:
    """Decides when the versions of one task may be loaded by this replica. It belongs to the swap's thread.

    `reports` returns those of all replicas of the task, and `is_answering` whether this one has weights.
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
        self._wanted: tuple[int, float] = (0, 0.0)  # the version that waits for its turn, and since when

    @contextmanager
    def loading(self, manifest: WeightManifest, encoder_key: str) -> Iterator[None]:
        """Notes that the version, whose encoder is new to this process, is loaded until the block ends.

        Raises VersionRefused, and NotYet while another replica is to try it first; StoreUnavailable.
        """
        digest = digest_of(f"encoder {encoder_key}")
        if self._deaths.is_refused(digest):
            raise VersionRefused(KILLED, "the process was killed twice while it loaded this encoder")
        needed = COPIES * manifest.num_bytes
        if needed > (left := self._memory_left()):
            raise VersionRefused(NO_MEMORY, f"loading takes {needed >> 20} MiB, and {left >> 20} MiB are left")
        if self._is_answering() and not self._is_turn(manifest.version):
            raise NotYet(manifest.version)
        with self._deaths.open([digest], is_sole=True):
            yield
        self._deaths.clear([digest])

    def _is_turn(self, number: int) -> bool:
        """Whether another replica has loaded the version, or those before this one have had their time."""
        now_s = self._clock()
        if self._wanted[0] != number:
            self._wanted = (number, now_s)
            log.info("encoder_is_new", version=number)
        reports = self._reports()
        if any(str(number) in report.model_bytes for report in reports):
            return True
        num_before = len({report.replica for report in reports if report.replica < self._replica})
        return now_s - self._wanted[1] >= TURN_S * num_before


def memory_left_bytes(cgroup: Path = CGROUP) -> int:
    """Returns the bytes that this process may still take: of the machine, and of its container (cgroup, version 2)."""
    left = int(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        cache = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())["inactive_file"]
    except (OSError, ValueError, KeyError):
        return left
    return min(left, limit - used + int(cache))
