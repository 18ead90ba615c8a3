"""A publication under way: the manifest is sent in a thread of its own, so that labels do not wait for the store.

send --> Flight --the store has the version on disk, or refuses it--> landed
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from learner.failpoints import failpoint
from learner.release.candidate import Candidate
from learner.stopwatch import Stopwatch
from wire.records import WeightManifest
from wire.store import Lease, Versions


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """A publication that waits for the store. `num_changes`: the changes that its version knows."""

    manifest: WeightManifest
    candidate: Candidate
    num_changes: int
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
        failpoint("after-publish")
