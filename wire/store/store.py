"""Everything that the programs keep in Redis, by one name.

    learner: put_blob, repair_blob, acquire, publish    serving: plan, manifest, get_blob, report, watch
    rollout: reports, history, write_plan, collect      operator: request_erasure

Each verb is one line here and lives in the file named after its noun.
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
    """Weights, plans and reports in Redis. Connects at the first command; threads may share it; close it when done.

    Every method raises StoreUnavailable when Redis does not answer or refuses. Every method may be called again after
    that: none has a second effect.
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
        """Raises UnsafePolicy when the server may evict weights."""
        self._server.check_policy()

    def put_blob(self, data: bytes | bytearray | memoryview) -> str:
        """Stores `data`, unless it is there, safe from `collect` for the grace period. Returns its SHA-256.

        Makes room where there is little. Raises StoreFull (and then nothing is written), BlobCorrupt.
        """
        self._collector.make_room(memoryview(data).nbytes)
        return self._blobs.put(data)

    def repair_blob(self, data: bytes | bytearray | memoryview) -> bool:
        """Stores `data` in place of what lies under its SHA-256, where that is something else. Whether it was."""
        return self._blobs.repair(data)

    def has_blobs(self, digests: Iterable[str]) -> set[str]:
        """Those that are stored whole."""
        return self._blobs.has(list(digests))

    def get_blob(self, digest: str, num_bytes: int) -> bytearray:
        """The blob, verified. Raises NotFound, BlobCorrupt."""
        return self._blobs.get(digest, num_bytes)

    def acquire(self, name: str, holder: str, ttl_ms: int, *, above: int = 0) -> Lease | None:
        """The lease, or None while another has it. Asking again for what one holds prolongs it.

        `above`: the highest epoch known from elsewhere, which a server that was wiped has forgotten.
        """
        return self._leases.acquire(name, holder, ttl_ms, above)

    def renew(self, lease: Lease) -> bool:
        """Prolongs the lease; False when it is another's now."""
        return self._leases.renew(lease)

    def release(self, lease: Lease) -> None:
        """Lets the next one have it at once."""
        self._leases.release(lease)

    def publish(self, manifest: WeightManifest, lease: Lease) -> None:
        """Makes the version current. Raises StaleEpoch, ParentMoved, NotFound (a blob is missing), BlobCorrupt."""
        self._versions.publish(manifest, lease)

    def manifest(self, version: int) -> WeightManifest:
        """The manifest, verified. Raises NotFound, BadSignature, UnknownFormat, BlobCorrupt."""
        return self._versions.manifest(version)

    def current(self) -> int:
        """The version to learn on from (0: none). A rollback sets it back."""
        return self._versions.current()

    def next_version(self) -> int:
        """The number for the next version. Not `current() + 1`: the number of a withdrawn version stays used."""
        return self._versions.next_version()

    def history(self, limit: int) -> list[VersionEntry]:
        """The last entries, newest first."""
        return self._versions.history(limit)

    def contents(self) -> dict[int, Contents]:
        """What each stored version names, by version; one that cannot be read is left out."""
        return self._collector.contents()

    def stored_versions(self) -> list[int]:
        """Every version that has a manifest, lowest first."""
        return self._versions.stored()

    def request_erasure(self, digest: str) -> None:
        """Asks the learner to forget a subject, for ever. Raises ErasuresFull."""
        self._erasures.request(digest)

    def erasures_requested(self, first: int) -> list[str]:
        """The digests of the subjects to forget, from place `first` on."""
        return self._erasures.requested(first)

    def num_erasures(self) -> int:
        """How many subjects are to be forgotten."""
        return self._erasures.num_requested()

    def note_erasure(self, erasure: Erasure) -> None:
        """Says what has become of a request."""
        self._erasures.note(erasure)

    def erasure(self, digest: str) -> Erasure | None:
        """What has become of a request; None where no learner has seen it."""
        return self._erasures.of(digest)

    def plan(self) -> RolloutPlan | None:
        """The plan in force; None before the first. Raises BadSignature, UnknownFormat."""
        return self._plans.plan()

    def write_plan(self, plan: RolloutPlan, entry: VersionEntry | None = None, current: int | None = None) -> None:
        """Replaces the plan before it, adds `entry` to the history, sets `current`.

        Raises PlanMoved, NotFound (a version that it names is not stored).
        """
        self._plans.write(plan, entry, current)

    def report(self, report: ReplicaReport) -> None:
        """Says what a replica serves; forgotten after `report_ttl_ms`."""
        self._reports.report(report)

    def reports(self) -> list[ReplicaReport]:
        """What every living replica said last, the latest first."""
        return self._reports.reports()

    @property
    def num_unreadable_reports(self) -> int:
        """How many reports we have passed over, as they could not be read."""
        return self._reports.num_unreadable

    def report_learner(self, report: LearnerReport) -> None:
        """Says where the learner stands; forgotten after `report_ttl_ms`. A standby says nothing here."""
        self._reports.report_learner(report)

    def learner_report(self) -> LearnerReport | None:
        """What the learner said last; None when none is heard of."""
        return self._reports.learner_report()

    def report_controller(self, report: ControllerReport) -> None:
        """Says where the rollout stands; forgotten after `report_ttl_ms`. A standby says nothing here."""
        self._reports.report_controller(report)

    def controller_report(self) -> ControllerReport | None:
        """What the controller said last; None when there is none, or it has stopped talking."""
        return self._reports.controller_report()

    def watch(self) -> Watch:
        """Waits for publications and plans from now on."""
        return Watch(self._server)

    def collect(self, keep: Iterable[int], *, grace_ms: int = GRACE_MS) -> int:
        """Removes versions not in `keep`, current or in the plan, and blobs that none of the rest names.

        Needs no lease, and no memory: anybody may collect, at any time.
        """
        return self._collector.collect(keep, grace_ms)

    def make_room(self) -> None:
        """Removes all but what is needed where the server is nearly full. Raises StoreFull where that is too much."""
        self._collector.make_room(0)

    def max_memory(self) -> int:
        """The server's `maxmemory` in bytes; 0 where it has no limit."""
        return self._server.memory()[1]

    def close(self) -> None:
        """Closes every connection."""
        self._server.close()
