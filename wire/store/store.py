"""The facade of the store: everything that the programs keep in Redis.

    learner: put_blob, repair_blob, acquire, publish    serving: plan, manifest, get_blob, report, watch
    rollout: reports, history, write_plan, collect      operator: request_erasure

Each method is one line here and implemented in the file named after its noun.
"""

import secrets
from collections.abc import Iterable

from wire.config import StoreConfig
from wire.records import (
    ControllerReport,
    Erasure,
    LearnerReport,
    ReplicaReport,
    RolloutPlan,
    VersionEntry,
    WeightManifest,
)
from wire.store.blobs import Blobs
from wire.store.collect import GRACE_MS, Collector, Contents
from wire.store.erasures import Erasures
from wire.store.lease import Lease, Leases
from wire.store.plans import Plans
from wire.store.reports import Reports
from wire.store.server import Server
from wire.store.versions import Versions
from wire.store.watch import Watch


class Store:
    """Weights, plans and reports in Redis. Connects at the first command. Thread-safe; close it when done.

    Every method raises StoreUnavailable where Redis does not answer or refuses, and may be called again after that: all
    are idempotent.
    """

    def __init__(self, config: StoreConfig, signing_key: bytes) -> None:
        self._server = Server(config)
        self._blobs = Blobs(self._server)
        self._leases = Leases(self._server, secrets.token_hex(8))
        self._versions = Versions(self._server, signing_key)
        self._plans = Plans(self._server, signing_key)
        self._erasures = Erasures(self._server)
        self._reports = Reports(self._server)
        self._collector = Collector(self._server, self._versions, self._plans)

    def check_policy(self) -> None:
        """Raises UnsafePolicy where the server may evict weights."""
        self._server.check_policy()

    def put_blob(self, data: bytes | bytearray | memoryview) -> str:
        """Stores `data`, unless it is stored, safe from `collect` for the grace period. Returns its SHA-256.

        Collects garbage where memory is short. Raises StoreFull (then nothing is written), BlobCorrupt.
        """
        self._collector.make_room(memoryview(data).nbytes)
        return self._blobs.put(data)

    def repair_blob(self, data: bytes | bytearray | memoryview) -> bool:
        """Replaces what is stored under the SHA-256 of `data`, unless it is `data`; True where it was written."""
        return self._blobs.repair(data)

    def has_blobs(self, digests: Iterable[str]) -> set[str]:
        """Returns those of `digests` that are stored completely."""
        return self._blobs.has(list(digests))

    def get_blob(self, digest: str, num_bytes: int) -> bytearray:
        """Returns the verified blob. Raises NotFound, BlobCorrupt."""
        return self._blobs.get(digest, num_bytes)

    def acquire(self, name: str, holder: str, ttl_ms: int, *, above: int = 0) -> Lease | None:
        """Returns the lease, or None while another holds it. The holder renews its lease by it.

        `above` is the highest epoch known from elsewhere, which a server that was wiped has forgotten.
        """
        return self._leases.acquire(name, holder, ttl_ms, above)

    def renew(self, lease: Lease) -> bool:
        """Renews the lease; False where another holds it now."""
        return self._leases.renew(lease)

    def release(self, lease: Lease) -> None:
        """Frees the lease for the next holder."""
        self._leases.release(lease)

    def publish(self, manifest: WeightManifest, lease: Lease) -> None:
        """Makes the version current. Raises StaleEpoch, ParentMoved, NotFound (a blob is missing), BlobCorrupt."""
        self._versions.publish(manifest, lease)

    def manifest(self, version: int) -> WeightManifest:
        """Returns the verified manifest. Raises NotFound, BadSignature, UnknownFormat, BlobCorrupt."""
        return self._versions.manifest(version)

    def current(self) -> int:
        """Returns the version to continue learning from (0: none). A rollback sets it back."""
        return self._versions.current()

    def next_version(self) -> int:
        """Returns the number of the next version; not `current() + 1`, since a withdrawn number stays used."""
        return self._versions.next_version()

    def history(self, limit: int) -> list[VersionEntry]:
        """Returns the last entries, newest first."""
        return self._versions.history(limit)

    def contents(self) -> dict[int, Contents]:
        """Returns what each stored version references, by version; a version that cannot be read is left out."""
        return self._collector.contents()

    def stored_versions(self) -> list[int]:
        """Returns every version that has a manifest, lowest first."""
        return self._versions.stored()

    def request_erasure(self, digest: str) -> None:
        """Requests that the learner erases a subject and never learns it again. Raises ErasuresFull."""
        self._erasures.request(digest)

    def erasures_requested(self, first: int) -> list[str]:
        """Returns the digests of the subjects to erase, from index `first` on."""
        return self._erasures.requested(first)

    def note_erasure(self, erasure: Erasure) -> None:
        """Stores the state of a request."""
        self._erasures.note(erasure)

    def erasure(self, digest: str) -> Erasure | None:
        """Returns the state of a request; None where no learner has read it yet."""
        return self._erasures.of(digest)

    def plan(self) -> RolloutPlan | None:
        """Returns the plan in force; None before the first. Raises BadSignature, UnknownFormat."""
        return self._plans.plan()

    def write_plan(self, plan: RolloutPlan, entry: VersionEntry | None = None, current: int | None = None) -> None:
        """Replaces the plan of the revision before, adds `entry` to the history, sets `current`.

        Raises PlanMoved, or NotFound where a version of the plan is not stored.
        """
        self._plans.write(plan, entry, current)

    def report(self, report: ReplicaReport) -> None:
        """Stores the report of a replica, which expires after `report_ttl_ms`."""
        self._reports.report(report)

    def reports(self) -> list[ReplicaReport]:
        """Returns the reports of all replicas that have not expired, the latest first."""
        return self._reports.reports()

    @property
    def num_unreadable_reports(self) -> int:
        """The number of reports that were skipped because they could not be read."""
        return self._reports.num_unreadable

    def report_learner(self, report: LearnerReport) -> None:
        """Stores the report of the learner that leads, which expires after `report_ttl_ms`."""
        self._reports.report_learner(report)

    def learner_report(self) -> LearnerReport | None:
        """Returns the learner's report; None where it has expired."""
        return self._reports.learner_report()

    def report_controller(self, report: ControllerReport) -> None:
        """Stores the report of the controller that leads, which expires after `report_ttl_ms`."""
        self._reports.report_controller(report)

    def controller_report(self) -> ControllerReport | None:
        """Returns the controller's report; None where it has expired."""
        return self._reports.controller_report()

    def watch(self) -> Watch:
        """Returns a watch that waits for publications and plans from now on."""
        return Watch(self._server)

    def collect(self, keep: Iterable[int], *, grace_ms: int = GRACE_MS) -> int:
        """Removes versions not in `keep`, current or in the plan, and blobs that no remaining version references.

        Returns how many of both. It needs no lease and no memory: any process may collect, at any time.
        """
        return self._collector.collect(keep, grace_ms)

    def make_room(self) -> None:
        """Collects garbage where the server is nearly full. Raises StoreFull where too much must stay."""
        self._collector.make_room(0)

    def max_memory(self) -> int:
        """Returns the server's `maxmemory` in bytes; 0 where it has no limit."""
        return self._server.memory()[1]

    def close(self) -> None:
        """Closes every connection."""
        self._server.close()
