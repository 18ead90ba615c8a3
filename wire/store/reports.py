"""What each replica, the learner and the controller say of themselves, for as long as they say so.

    replica -> SET report:<replica> with an expiry, and its name in a sorted set -> reports(): whoever has not expired
    learner, controller -> SET learner, SET controller with an expiry -> learner_report(), controller_report()

What cannot be read (of a later program, or damaged) is passed over and counted: it must not hide the others.

No script: a replica's account needs no permission for scripts. Rejected: KEYS and SCAN (both walk every blob).
"""

from typing import TypeVar

from wire.errors import UnknownFormat
from wire.records import ControllerReport, LearnerReport, Record, ReplicaReport
from wire.store import signed
from wire.store.server import Server

AnyReport = TypeVar("AnyReport", ReplicaReport, LearnerReport, ControllerReport)

MAX_REPORTS = 1_000
"""Replicas that are listed: the latest, by their own clocks."""


class Reports:
    """The live reports on one server. `num_unreadable` counts those that were passed over."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.num_unreadable = 0

    def report(self, report: ReplicaReport) -> None:
        """Replaces the replica's report. One that fails is not repeated: the next will say it better."""
        names = self._server.key("reports")
        key = self._server.key("report", report.replica)
        ttl_ms = self._server.config.report_ttl_ms
        self._server.ask_once(
            [
                ("SET", key, signed.encode(report), "PX", ttl_ms),
                ("ZADD", names, report.time_ms, report.replica),
                ("ZREMRANGEBYRANK", names, 0, -MAX_REPORTS - 1),
            ]
        )

    def reports(self) -> list[ReplicaReport]:
        """The reports that have not expired, the latest first."""
        names = self._server.ask("ZREVRANGE", self._server.key("reports"), 0, MAX_REPORTS - 1)
        if not names:
            return []
        keys = [self._server.key("report", name.decode()) for name in names]
        bodies = self._server.ask("MGET", *keys)
        decoded = [self._decoded(body, ReplicaReport) for body in bodies]
        return [report for report in decoded if report is not None]

    def report_learner(self, report: LearnerReport) -> None:
        """Replaces the learner's report."""
        self._set("learner", report)

    def learner_report(self) -> LearnerReport | None:
        """What the learner said last; None when none has said anything for a while."""
        return self._decoded(self._server.ask("GET", self._server.key("learner")), LearnerReport)

    def report_controller(self, report: ControllerReport) -> None:
        """Replaces the report of the controller that leads."""
        self._set("controller", report)

    def controller_report(self) -> ControllerReport | None:
        """What the controller said last; None when none has said anything for a while."""
        return self._decoded(self._server.ask("GET", self._server.key("controller")), ControllerReport)

    def _set(self, name: str, report: Record) -> None:
        ttl_ms = self._server.config.report_ttl_ms
        self._server.ask_once([("SET", self._server.key(name), signed.encode(report), "PX", ttl_ms)])

    def _decoded(self, body: bytes | None, record_type: type[AnyReport]) -> AnyReport | None:
        if body is None:
            return None
        try:
            return signed.decode(body, record_type, record_type.__name__)
        except UnknownFormat:
            self.num_unreadable += 1
            return None
