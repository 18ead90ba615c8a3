"""Sends versions to the store beside the learner, and learns when they are on its disk.

    Flight --script--> served by replicas, or refused --Durability--> on the store's disk, or lost by the store

A version is served before it is durable: a Redis that syncs once a second would hold it back for up to a second, and
what a power cut takes from it the learner still knows. So a version is provisional until the disk has it. Where the
store has lost it by then, the learner publishes what it knows again (`learner.release.parent`).

Both threads do one thing at a time, so labels wait for neither.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from learner.failpoints import failpoint
from learner.release.candidate import Candidate
from learner.stopwatch import Stopwatch
from wire.errors import WireError
from wire.records import WeightManifest
from wire.store import Lease, Versions

RETRY_S = 1.0
"""Pause before a disk that failed is asked again."""

log = structlog.get_logger("learner")


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """A publication that waits for the store. `num_effects`: the effects on knowledge that its version has.

    The last lap of `stopwatch` ends when the store has announced the version, not when the learner takes note of that.
    """

    manifest: WeightManifest
    candidate: Candidate
    num_effects: int
    stopwatch: Stopwatch
    lease: Lease


class Sender:
    """Sends manifests, at most one at a time."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")
        self._sent: Future[None] = Future()
        self.flight: Flight | None = None
        """The publication under way."""

    def send(self, flight: Flight) -> None:
        """Begins to send. Nothing may be under way."""
        self.flight = flight
        self._sent = self._thread.submit(self._publish, flight)

    def has_landed(self, *, wait: bool) -> bool:
        """Whether the publication under way has ended, which `wait` waits for. Then nothing is under way any more.

        Raises what sending has raised.
        """
        if not (wait or self._sent.done()):
            return False
        try:
            self._sent.result()
        finally:
            self.flight = None
        return True

    def _publish(self, flight: Flight) -> None:
        self._versions.publish(flight.manifest, flight.lease)
        flight.stopwatch.end("publish")
        failpoint("after-publish")


class Durability:
    """Knows which version is on the store's disk. Belongs to the learner's thread.

    `version`: the newest that is known to be there (0: none). `ms`: how long after it was served that became known.
    """

    def __init__(self, versions: Versions, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._versions = versions
        self._clock_s = clock_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="durable")
        self._asked: Future[bool] | None = None
        self._asked_for = (0, 0.0)
        self._newest = (0, 0.0)
        self._not_before_s = 0.0
        self._is_failing = False
        self.version = 0
        self.ms = 0.0

    def expect(self, version: int) -> None:
        """Takes note that `version` is served since now. A version that the disk did not have before is not lost."""
        self._newest = (version, self._clock_s())

    def is_lost(self, *, wait: bool = False) -> bool:
        """Whether the store has lost the newest version; `wait` waits until that is known. Says so once.

        Asks for the newest version as soon as the answer about an earlier one is there.
        """
        is_lost = self._read(wait=wait)
        if self._asked is None and self._newest[0] > self.version and self._clock_s() >= self._not_before_s:
            self._asked_for = self._newest
            self._asked = self._thread.submit(self._is_kept, self._newest[0])
            is_lost = is_lost or (wait and self._read(wait=True))
        return is_lost

    def _read(self, *, wait: bool) -> bool:
        """Reads the answer that is there, or that `wait` waits for; true where it is that the version is lost."""
        if self._asked is None or not (wait or self._asked.done()):
            return False
        asked, self._asked = self._asked, None
        version, since_s = self._asked_for
        try:
            is_kept = asked.result()
        except WireError as error:
            self._not_before_s = self._clock_s() + RETRY_S
            if not self._is_failing:
                log.warning("not_durable_yet", version=version, reason=str(error))
            self._is_failing = True
            return False
        self._is_failing = False
        if not is_kept:
            is_newest = version == self._newest[0]  # otherwise another one was published in its place
            if is_newest:
                self._newest = (0, 0.0)
                log.warning("version_lost", version=version)
            return is_newest
        self.version = version
        self.ms = round(1e3 * (self._clock_s() - since_s), 1)
        return False

    def _is_kept(self, version: int) -> bool:
        """Waits for the disk. Whether the store still knows `version`: it may have been started again meanwhile."""
        self._versions.sync()
        return self._versions.next_number() > version
