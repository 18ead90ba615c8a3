"""Computes the result of a run: the figures, under the names by which they are written.

    ledger, snapshot of the store, audit of the answers topic --> Figures --> report

The names of the figures in the JSON are stable: `FROZEN` in the tests holds them.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from evals.continual.measures import Row, forgetting
from evals.load.ledger import TRAIN, Ledger, Progress
from evals.load.oracle import PrequentialFigures
from evals.load.score import (
    Audit,
    Hits,
    Percentiles,
    VersionTimes,
    accuracy_by_stage,
    label_to_live,
    model_bytes,
    parity,
    per_second,
    percentiles,
    publications_ms,
)
from evals.load.watcher import ServiceSnapshot
from wire.records import STABLE, ArmName

FIRST_S = 5.0
"""The first seconds of a run, in which a service is slower because it is not warm."""

Mark: TypeAlias = tuple[float, str]
"""A mark in the plot for the first answer of a version: the seconds from the first event, and the arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a run. Accuracies and forgetting are in percent. None means that nothing was measured."""

    events: int
    """The number of events that were sent, test items included."""
    answers: int
    """The number of events that have an answer in the answers topic."""
    lost: int
    duplicates: int
    dead_letters: int
    accuracy_first_seen: float
    """The accuracy of the answers to training items, which were given before their label came back."""
    prequential: PrequentialFigures | None
    """The same accuracy compared with an instant oracle, or None without an oracle."""
    accuracy_final: float
    """The accuracy over all test items, after the last stage."""
    accuracy_by_kind: dict[str, float]
    """The final accuracy for each kind of test items. It is empty if the stream has no kinds."""
    accuracy_by_stage: tuple[Row, ...]
    """Row r has the accuracies on the test items of the stages 0..r, after stage r. A stream without pauses has only
    the last row."""
    forgetting: float
    versions_published: int
    restarts: int
    """How often a program of the service was restarted or a replica was replaced during the run."""
    swaps: int
    """How often a replica swapped in new weights, summed over the replicas."""
    drifts: int
    """The number of drifts that the learner detected, in errors or in distances."""
    swap_stall_ms: Percentiles
    label_to_live_s: Percentiles
    """`p50` and `p95` are over all arms, `stable_p50` and `stable_p95` over the stable arm only."""
    publish_ms: Percentiles
    """The time from reading the oldest label of a version to the first answer by that version or a later one.

    A version that never answered counts as infinitely late.
    """
    durable_ms: Percentiles
    """The time from serving a version until it is known to be on the store's disk. It is None if the store does not
    report this."""
    latency_ms: Percentiles
    """The time from a training event, sent at the chosen rate, until its answer was read from Kafka. `first_p99` is
    over the events of the first FIRST_S seconds."""
    events_per_s: float
    """Answers a second while the test items were sent as fast as they were answered."""
    arms: dict[ArmName, dict[str, float]]
    """For each arm: its version, the number of training events that it answered, and their accuracy in percent."""
    precisions: dict[str, int]
    """The number of events that were answered in each precision."""
    parity: dict[str, float]
    """The similarity of the served precision to full precision: `cosine` and `agreement`."""
    model_bytes: dict[str, int]
    """The size of the weights as they are served, and in fp32."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compute_figures(
    ledger: Ledger,
    snapshot: ServiceSnapshot,
    audit: Audit,
    *,
    dead_letters: int,
    restarts: int,
    prequential: PrequentialFigures | None,
) -> Figures:
    """Computes the figures of a finished run. `restarts` is how often programs of the service were restarted."""
    progress = ledger.progress()
    matrix = accuracy_by_stage(progress.hits)
    last_round = max(number for number, _ in progress.hits)
    return Figures(
        events=progress.counts.sent,
        answers=audit.found,
        lost=audit.lost,
        duplicates=audit.duplicates,
        dead_letters=dead_letters,
        accuracy_first_seen=round(progress.of_round(TRAIN).accuracy, 2),
        prequential=prequential,
        accuracy_final=round(progress.of_round(last_round).accuracy, 2) if matrix else 0.0,
        accuracy_by_kind=_by_kind(progress, last_round),
        accuracy_by_stage=tuple(map(_rounded, matrix)),
        forgetting=round(forgetting(matrix), 2),
        versions_published=snapshot.published,
        restarts=restarts + snapshot.replaced,
        swaps=snapshot.swaps,
        drifts=snapshot.drifts,
        swap_stall_ms=percentiles(snapshot.stalls_ms, 50, 99),
        label_to_live_s=_label_to_live(ledger, progress, snapshot),
        publish_ms=percentiles(publications_ms(snapshot.read_ms, progress.first_ms), 50, 95),
        durable_ms=percentiles(snapshot.durable_ms, 50, 99),
        latency_ms=_latency(ledger),
        events_per_s=per_second(ledger.throughput()),
        arms=_arms(progress, snapshot),
        precisions=dict(progress.precisions),
        parity=parity(snapshot.served) if snapshot.served else {},
        model_bytes=model_bytes(snapshot.served) if snapshot.served else {},
    )


def _by_kind(progress: Progress, last_round: int) -> dict[str, float]:
    """Returns the accuracies of the last test by kind, the lowest first."""
    rates = {kind: round(hits.accuracy, 2) for (number, kind), hits in progress.kinds.items() if number == last_round}
    return dict(sorted(rates.items(), key=lambda kind_and_rate: kind_and_rate[1]))


def _latency(ledger: Ledger) -> Percentiles:
    first = percentiles(ledger.latencies_ms(until_s=FIRST_S), 99)
    return {**percentiles(ledger.latencies_ms(), 50, 99), "first_p99": first["p99"]}


def _label_to_live(ledger: Ledger, progress: Progress, snapshot: ServiceSnapshot) -> Percentiles:
    labels = ledger.labels()
    all_arms = {arm for arm, _ in progress.first_ms}
    any_arm = percentiles(label_to_live(labels, _services(progress, snapshot, all_arms)), 50, 95)
    stable = percentiles(label_to_live(labels, _services(progress, snapshot, {STABLE})), 50, 95)
    return {**any_arm, **{f"stable_{name}": value for name, value in stable.items()}}


def _services(progress: Progress, snapshot: ServiceSnapshot, arms: Collection[ArmName]) -> list[VersionTimes]:
    """Returns the versions that answered in any of the arms, except versions whose manifest was never seen."""
    return [
        VersionTimes(snapshot.through[version], first_ms)
        for (arm, version), first_ms in progress.first_ms.items()
        if arm in arms and version in snapshot.through
    ]


def _arms(progress: Progress, snapshot: ServiceSnapshot) -> dict[ArmName, dict[str, float]]:
    planned = snapshot.plan.arms if snapshot.plan else ()
    names = dict.fromkeys([*progress.arms, *(arm.name for arm in planned)])
    return {name: _arm(name, progress, snapshot) for name in names}


def _arm(name: ArmName, progress: Progress, snapshot: ServiceSnapshot) -> dict[str, float]:
    hits = progress.arms.get(name, Hits())
    newest = max((version for arm, version in progress.first_ms if arm == name), default=0)
    arm = snapshot.plan.arm(name) if snapshot.plan else None
    version = arm.version if arm else newest
    return {"version": version, "answers": hits.answered, "accuracy": round(hits.accuracy, 2)}


def _rounded(row: Row) -> Row:
    return tuple(round(accuracy, 2) for accuracy in row)
