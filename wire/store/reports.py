"""The reports of replicas, the learner and the controller, which expire unless they are renewed.

    replica -> SET report:<replica> with an expiry, and its name in a sorted set -> replicas(): reports not expired
    learner, controller -> SET learner, SET controller with an expiry -> learner(), controller()

This process also exports the report that it writes to Prometheus (`wire/metrics.py`). A report that cannot be read
(written by a later release, or damaged) is skipped and counted, so that the other reports can be read. No report is
written by a script, so the Redis account of a replica needs no permission for scripts.
"""

from typing import TypeVar

import msgspec

from wire import metrics
from wire.errors import UnknownFormat
from wire.keyring import KeyRing
from wire.records import ControllerReport, LearnerReport, Record, ReplicaReport
from wire.store import keys, signed
from wire.store.server import Server
from wire.tasks import DEFAULT

AnyReport = TypeVar("AnyReport", ReplicaReport, LearnerReport, ControllerReport)

MAX_REPORTS = 1_000
"""Largest number of replicas that are listed: the replicas with the latest reports, by their own clocks."""


class Reports:
    """The reports of one task on one server. `num_unreadable` counts reports that were skipped."""

    def __init__(self, server: Server, ring: KeyRing, task: str = DEFAULT) -> None:
        self._server = server
        self._ring = ring
        self._task = task
        self.num_unreadable = 0

    def write_replica(self, report: ReplicaReport) -> None:
        """Replaces the replica's report, which expires after `report_ttl_ms`.

        A failed write is not repeated: the next report is newer.
        """
        metrics.set_report(report, self._task)
        names = self._server.key(keys.REPORTS)
        key = self._server.key(keys.REPORT, report.replica)
        ttl_ms = self._server.config.report_ttl_ms
        self._server.ask_once(
            [
                ("SET", key, self._encode(report), "PX", ttl_ms),
                ("ZADD", names, report.time_ms, report.replica),
                ("ZREMRANGEBYRANK", names, 0, -MAX_REPORTS - 1),
            ]
        )

    def replicas(self) -> list[ReplicaReport]:
        """Returns the reports of all replicas that have not expired, the latest first."""
        names = self._server.ask("ZREVRANGE", self._server.key(keys.REPORTS), 0, MAX_REPORTS - 1)
        if not names:
            return []
        bodies = self._server.ask("MGET", *(self._server.key(keys.REPORT, name.decode()) for name in names))
        decoded = [self._decode(body, ReplicaReport) for body in bodies]
        return [report for report in decoded if report is not None]

    def write_learner(self, report: LearnerReport) -> None:
        """Replaces the leading learner's report, which expires after `report_ttl_ms`."""
        self._set(keys.LEARNER, report)

    def learner(self) -> LearnerReport | None:
        """Returns the learner's report; None if it has expired."""
        return self._decode(self._server.ask("GET", self._server.key(keys.LEARNER)), LearnerReport)

    def write_controller(self, report: ControllerReport) -> None:
        """Replaces the leading controller's report, which expires after `report_ttl_ms`."""
        self._set(keys.CONTROLLER, report)

    def controller(self) -> ControllerReport | None:
        """Returns the controller's report; None if it has expired."""
        return self._decode(self._server.ask("GET", self._server.key(keys.CONTROLLER)), ControllerReport)

    def programs(self) -> dict[str, ReplicaReport | LearnerReport | ControllerReport]:
        """Returns the reports of all running programs, by kind and name, for example `learner host/1/ab`."""
        by_program: dict[str, ReplicaReport | LearnerReport | ControllerReport] = {}
        by_program |= {f"replica {report.replica}": report for report in self.replicas()}
        if (learner := self.learner()) is not None:
            by_program[f"learner {learner.learner}"] = learner
        if (controller := self.controller()) is not None:
            by_program[f"rollout {controller.controller}"] = controller
        return by_program

    def _set(self, name: str, report: LearnerReport | ControllerReport) -> None:
        metrics.set_report(report, self._task)
        ttl_ms = self._server.config.report_ttl_ms
        self._server.ask_once([("SET", self._server.key(name), self._encode(report), "PX", ttl_ms)])

    def _encode(self, report: Record) -> bytes:
        """Returns the bytes of the report, with the ids of the keys that this process accepts."""
        return signed.encode(msgspec.structs.replace(report, keys=self._ring.accepted))

    def _decode(self, body: bytes | None, record_type: type[AnyReport]) -> AnyReport | None:
        if body is None:
            return None
        try:
            return signed.decode(body, record_type, record_type.__name__)
        except UnknownFormat:
            self.num_unreadable += 1
            return None
