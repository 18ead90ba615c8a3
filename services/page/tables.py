"""Builds the tables of the page and of `lifelong status` from the reports of the service. Pure functions.

    RolloutStatus, decisions, traffic --> alarms, rollout, arms, versions, replicas, promises, learner, labels,
                                          confusions, cohorts, drifts: PageTable each

A cell is a number or a text, and its column says how to show it, so that a browser, a terminal and JSON show the same
tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from rollout.operator import RolloutStatus
from services.commands.rollout_text import NOTHING, render_plan
from services.page.rates import ReplicaTraffic
from wire.metrics import LABEL_OUTCOMES
from wire.records import TIERS, Decision, LearnerReport, ReplicaReport, VersionEntry

Kind: TypeAlias = Literal["text", "count", "percent", "ms", "time", "rate"]
"""`percent` is a fraction in [0, 1], `ms` milliseconds, `time` milliseconds since 1970, `rate` a number per second."""

Cell: TypeAlias = str | float | None

MAX_ROWS = 60


class PageColumn(msgspec.Struct, frozen=True):
    """The heading of a column, and how its cells are shown."""

    name: str
    kind: Kind = "text"


class PageTable(msgspec.Struct, frozen=True):
    """A table with a title. `empty` is shown if there are no rows."""

    title: str
    columns: tuple[PageColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = "none"


def build_tables(
    status: RolloutStatus, decisions: Sequence[Decision], traffic: Mapping[str, ReplicaTraffic]
) -> dict[str, PageTable]:
    """Returns all tables by their ids."""
    return {
        "alarms": alarms(status),
        "rollout": rollout(status),
        "arms": arms(status),
        "versions": versions(decisions, status.history),
        "replicas": replicas(status.replicas, traffic),
        "promises": promises(status.replicas),
        "learner": learner(status.learner),
        "labels": labels(status.learner),
        "confusions": confusions(status.learner),
        "cohorts": cohorts(status.learner),
        "drifts": drifts(status.learner),
    }


def rollout(status: RolloutStatus) -> PageTable:
    """Returns the plan, the evidence from labels, and the condition for the next decision."""
    rows: list[tuple[Cell, ...]] = [
        ("plan", render_plan(status.plan) if status.plan else NOTHING),
        ("current version", str(status.current or "none")),
    ]
    controller = status.controller
    if controller is None:
        rows.append(("evidence", "no controller has reported"))
        return PageTable("Rollout", (PageColumn("what"), PageColumn("")), tuple(rows))
    rows.append(("evidence", controller.evidence or "none"))
    if controller.waits_for:
        rows.append(("not decided", controller.waits_for))
    if controller.label_rates:
        rates = [f"{rate.arm} {rate.labels} of {rate.answers} answers" for rate in controller.label_rates]
        rows.append(("labels", f"{', '.join(rates)}, at the present shares"))
    return PageTable("Rollout", (PageColumn("what"), PageColumn("")), tuple(rows))


def arms(status: RolloutStatus) -> PageTable:
    """Returns the arms of the plan, with their accuracy by labels and its confidence sequence."""
    accuracy_of = {accuracy.arm: accuracy for accuracy in status.controller.arm_accuracies} if status.controller else {}
    rows: list[tuple[Cell, ...]] = []
    for arm in status.plan.arms if status.plan else ():
        measured = accuracy_of.get(arm.name)
        if measured is None:
            rows.append((arm.name, arm.version, arm.share, None, 0.0, 1.0, 0))
        else:
            accuracy = measured.right / measured.labels
            rows.append((arm.name, arm.version, arm.share, accuracy, measured.low, measured.high, measured.labels))
    columns = (
        PageColumn("arm"),
        PageColumn("version", "count"),
        PageColumn("share", "percent"),
        PageColumn("right", "percent"),
        PageColumn("at least", "percent"),
        PageColumn("at most", "percent"),
        PageColumn("of its last labels", "count"),
    )
    return PageTable("Arms", columns, tuple(rows), "no plan yet")


def versions(decisions: Sequence[Decision], history: Sequence[VersionEntry]) -> PageTable:
    """Returns the history of versions, the newest entry first: decisions and publications."""
    rows: list[tuple[Cell, ...]] = [
        (entry.time_ms, entry.version, entry.action, entry.rule, entry.reason) for entry in decisions
    ]
    decided = {(entry.version, entry.action) for entry in decisions}
    rows += [
        (entry.time_ms, entry.version, entry.action, "", entry.detail)
        for entry in history
        if (entry.version, entry.action) not in decided
    ]
    columns = (
        PageColumn("when", "time"),
        PageColumn("version", "count"),
        PageColumn("what"),
        PageColumn("rule"),
        PageColumn("why"),
    )
    newest = sorted(rows, key=lambda row: row[:2], reverse=True)[:MAX_ROWS]
    return PageTable("Versions and decisions", columns, tuple(newest), "nothing was published yet")


def replicas(reports: Sequence[ReplicaReport], traffic: Mapping[str, ReplicaTraffic]) -> PageTable:
    """Returns the versions and the traffic of each replica."""
    rows: list[tuple[Cell, ...]] = []
    for report in sorted(reports, key=lambda report: report.replica):
        now = traffic.get(report.replica, ReplicaTraffic())
        promises = [promise for promise in report.promises if promise.is_met is not None]
        kept = f"{sum(bool(promise.is_met) for promise in promises)} of {len(promises)}" if promises else ""
        rows.append(
            (
                report.replica,
                ", ".join(map(str, report.versions)),
                report.revision,
                report.profile,
                kept,
                now.per_s,
                now.latency_ms(0.5),
                now.latency_ms(0.99),
                report.queue_items,
                report.swaps,
                max(report.swap_stalls_ms, default=None),
            )
        )
    columns = (
        PageColumn("replica"),
        PageColumn("versions"),
        PageColumn("revision", "count"),
        PageColumn("profile"),
        PageColumn("promises kept"),
        PageColumn("answers/s", "rate"),
        PageColumn("p50", "ms"),
        PageColumn("p99", "ms"),
        PageColumn("queue", "count"),
        PageColumn("swaps", "count"),
        PageColumn("longest stall", "ms"),
    )
    return PageTable("Replicas", columns, tuple(rows), "no replica has reported")


def promises(reports: Sequence[ReplicaReport]) -> PageTable:
    """Returns the promises of each replica, with the values that were measured over the last minute."""
    rows: list[tuple[Cell, ...]] = []
    for report in reports:
        for promise in report.promises:
            limit = f"{'<=' if promise.is_ceiling else '>='} {promise.limit:g}"
            measured = "nothing measured" if promise.value is None else f"{promise.value:.4g}"
            verdict = {True: "kept", False: "NOT KEPT", None: ""}[promise.is_met]
            rows.append((report.replica, promise.name, limit, measured, verdict))
    columns = (
        PageColumn("replica"),
        PageColumn("promise"),
        PageColumn("limit"),
        PageColumn("measured"),
        PageColumn(""),
    )
    return PageTable("Promises", columns, tuple(rows), "no profile is set")


def learner(report: LearnerReport | None) -> PageTable:
    """Returns the state of the learner, the versions that its gate refused, and the number of its slow rounds."""
    columns = (PageColumn("what"), PageColumn(""))
    if report is None:
        return PageTable("Learner", columns, (), "no learner has reported")
    counts = report.counts
    provisional = counts.get("classes_provisional", 0)
    evicted = counts.get("classes_evicted", 0)
    rows: list[tuple[Cell, ...]] = [
        ("state", report.state),
        ("classes", f"{report.num_classes} ({provisional} provisional, {evicted} evicted)"),
        ("version", f"{report.version}, on the store's disk up to version {report.durable_version}"),
    ]
    if report.refusals:
        num = counts.get("gate_in_a_row", 0)
        rows.append(("refused", f"{num} versions in a row, the last as {', '.join(report.refusals)}"))
    rounds = ", ".join(f"{tier} {counts.get(f'rounds_{tier}', 0)}" for tier in TIERS)
    rows.append(("slow rounds begun, by the tier that they train", rounds))
    return PageTable("Learner", columns, tuple(rows))


def labels(learner: LearnerReport | None) -> PageTable:
    """Returns the number of labels by their outcome."""
    counts = learner.counts if learner else {}
    rows: list[tuple[Cell, ...]] = [(end, counts[end]) for end in LABEL_OUTCOMES if counts.get(end)]
    if text := distrusted_counts(counts):
        rows.append(("not believed", text))
    return PageTable("Labels", (PageColumn("outcome"), PageColumn("labels", "count")), tuple(rows))


def confusions(learner: LearnerReport | None) -> PageTable:
    """Returns the most frequent mistakes of the recent answers."""
    rows = tuple(
        (confusion.label, confusion.answered, confusion.answers)
        for confusion in (learner.confusions if learner else ())
    )
    columns = (PageColumn("label"), PageColumn("was answered as"), PageColumn("answers", "count"))
    return PageTable("Confusion, among the last 1,000 labelled answers", columns, rows)


def cohorts(learner: LearnerReport | None) -> PageTable:
    """Returns the accuracy of the published version on the holdout by the age of the classes, to show forgetting."""
    evaluation = learner.evaluation if learner else None
    groups = evaluation.cohorts if evaluation else ()
    rows = tuple(
        (f"cohort {number}", cohort.num_labels, cohort.parent_accuracy, cohort.accuracy)
        for number, cohort in enumerate(groups, start=1)
    )
    columns = (
        PageColumn("classes, the oldest first"),
        PageColumn("labels", "count"),
        PageColumn("version before", "percent"),
        PageColumn("this version", "percent"),
    )
    return PageTable("Forgetting, on the holdout", columns, rows, "not measured yet")


def drifts(learner: LearnerReport | None) -> PageTable:
    """Returns the last drifts that were detected."""
    detected = learner.drifts if learner else ()
    rows = tuple((drift.signal, drift.at_label, drift.before, drift.after) for drift in reversed(detected))
    columns = (
        PageColumn("signal"),
        PageColumn("at label", "count"),
        PageColumn("before", "rate"),
        PageColumn("after", "rate"),
    )
    return PageTable("Drift", columns, rows)


def distrusted_counts(counts: Mapping[str, int]) -> str:
    """Returns, as text, the number of refused and quarantined labels by reason, and of withdrawn labels.

    >>> distrusted_counts({"refused_forged": 12, "quarantined_flip": 3, "withdrawn": 6, "matched": 900})
    '3 flip, 12 forged, 6 withdrawn'
    """
    parts = []
    for name, num in sorted(counts.items()):
        outcome, _, reason = name.partition("_")
        if num and outcome in ("refused", "quarantined", "withdrawn"):
            parts.append(f"{num} {reason or outcome}")
    return ", ".join(parts)


def alarms(status: RolloutStatus) -> PageTable:
    """Returns every alarm that is on, with the program that raises it."""
    return PageTable("Alarms", (PageColumn("by"), PageColumn("what")), tuple(_alarms(status)))


def _alarms(status: RolloutStatus) -> Iterator[tuple[Cell, ...]]:
    if status.controller is None:
        yield "rollout", "no controller has reported"
    if status.learner is None:
        yield "learner", "no learner has reported"
    if status.num_unreadable:
        yield "store", f"{status.num_unreadable} reports cannot be read"
    for alarm in status.controller.alarms if status.controller else ():
        yield "rollout", alarm
    for alarm in status.learner.alarms if status.learner else ():
        yield "learner", alarm
    for report in status.replicas:
        for alarm in report.alarms:
            yield report.replica, alarm
        for promise in report.promises:
            if promise.is_met is False:
                yield report.replica, f"the promise {promise.name} of {promise.limit:g} is not kept"
