"""Computes the result of a run: the figures, under the names by which they are written.

    ledger, snapshot of the store, audit of the answers topic --> Figures --> report

`FROZEN` in the tests holds the names: whoever reads the JSON may rely on them.
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
"""The seconds after the first event in which a service that is not warm yet is slow."""

Mark: TypeAlias = tuple[float, str]
"""A version's first answer: seconds from the first event, and the arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a run. Accuracies and forgetting are in percent; None stands where nothing was measured."""

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
    """The same accuracy beside that of an instant oracle; None where no oracle was asked."""
    accuracy_final: float
    """The accuracy over all test items, after the last stage."""
    accuracy_by_kind: dict[str, float]
    """The same for each kind of test items, such as those written one by one; empty if the stream names none."""
    accuracy_by_stage: tuple[Row, ...]
    """A row has the accuracies on the test items of stages 0..r, after stage r: only the last without pauses."""
    forgetting: float
    versions_published: int
    restarts: int
    """How often a program of the service was started again meanwhile, or a replica in the place of another."""
    swaps: int
    """How often a replica swapped in new weights, summed over the replicas."""
    drifts: int
    """How many drifts the learner detected, in errors or in distances."""
    swap_stall_ms: Percentiles
    label_to_live_s: Percentiles
    """`p50` and `p95` count any arm, `stable_p50` and `stable_p95` the stable one alone."""
    publish_ms: Percentiles
    """The time from the learner's reading of the oldest label that came with a version to the first answer of a replica
    by that version or a later one. A version that never answered is infinitely late."""
    durable_ms: Percentiles
    """How long after it was served a version was known to be on the store's disk; None where the store cannot tell."""
    latency_ms: Percentiles
    """The time from a training event, sent at the chosen rate, to its answer read back from Kafka. `first_p99` is that
    of the events of the first FIRST_S seconds."""
    events_per_s: float
    """Answers a second while the test items were sent as fast as they were answered."""
    arms: dict[ArmName, dict[str, float]]
    """The version of each arm, how many training events it answered, and how many percent of them rightly."""
    precisions: dict[str, int]
    """How many events were answered in each precision."""
    parity: dict[str, float]
    model_bytes: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def figures(
    ledger: Ledger,
    snapshot: ServiceSnapshot,
    audit: Audit,
    *,
    dead_letters: int,
    restarts: int,
    prequential: PrequentialFigures | None,
) -> Figures:
    """Computes the figures of a run that is over. `restarts` are those of the programs of the service."""
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
    """Returns the accuracies of the last test by kind, the lowest one first."""
    found = {kind: round(hits.accuracy, 2) for (number, kind), hits in progress.kinds.items() if number == last_round}
    return dict(sorted(found.items(), key=lambda each: each[1]))


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
    """Returns the versions that answered in any of the arms. One whose manifest was never seen covers nothing."""
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
