"""The result of a run: the figures, under the names by which they are written.

    ledger, what the store showed, the audit of the answers topic --> Figures --> report

`FROZEN` in the tests holds the names: whoever reads the JSON may rely on them.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from evals.continual.measures import Row, forgetting
from evals.load.ledger import TRAIN, Ledger, Progress
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
)
from evals.load.watcher import ServiceSnapshot
from wire.records import STABLE, ArmName

Mark: TypeAlias = tuple[float, str]
"""A version's first answer: seconds from the first event, and the arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run came to. Accuracies and forgetting in percent; None where nothing was measured."""

    events: int
    """Events that were sent, test items included."""
    answers: int
    """Events that the answers topic holds an answer to."""
    lost: int
    duplicates: int
    dead_letters: int
    accuracy_first_seen: float
    """Of the answers to training items, given before their label came back."""
    accuracy_final: float
    """Over all test items, after the last stage."""
    accuracy_by_stage: tuple[Row, ...]
    """Row r: the test items of stages 0..r, after stage r."""
    forgetting: float
    versions_published: int
    swaps: int
    """New weights taken, summed over the replicas."""
    drifts: int
    """Rises of errors or distances that the learner found."""
    swap_stall_ms: Percentiles
    label_to_live_s: Percentiles
    """`p50`, `p95` for any arm, `stable_p50`, `stable_p95` for the stable one."""
    latency_ms: Percentiles
    """From event to the answer read back from Kafka, of the training items at the chosen rate."""
    events_per_s: float
    """Answers a second while the test items were sent as fast as they were answered."""
    arms: dict[ArmName, dict[str, float]]
    """Of each arm the version, its training answers, and how many percent of them were right."""
    parity: dict[str, float]
    model_bytes: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def figures(ledger: Ledger, sight: ServiceSnapshot, found: Audit, *, dead_letters: int) -> Figures:
    """The figures of a run that is over."""
    progress = ledger.progress()
    num_rounds = 1 + max((number for number, _ in progress.hits), default=TRAIN)
    matrix = accuracy_by_stage(progress.hits, num_rounds)
    return Figures(
        events=progress.counts.sent,
        answers=found.found,
        lost=found.lost,
        duplicates=found.duplicates,
        dead_letters=dead_letters,
        accuracy_first_seen=round(progress.of_round(TRAIN).accuracy, 2),
        accuracy_final=round(progress.of_round(num_rounds - 1).accuracy, 2) if matrix else 0.0,
        accuracy_by_stage=tuple(tuple(round(each, 2) for each in row) for row in matrix),
        forgetting=round(forgetting(matrix), 2),
        versions_published=sight.published,
        swaps=sight.swaps,
        drifts=sight.drifts,
        swap_stall_ms=percentiles(sight.stalls_ms, 50, 99),
        label_to_live_s=_label_to_live(ledger, progress, sight),
        latency_ms=percentiles(ledger.latencies_ms(), 50, 99),
        events_per_s=per_second(ledger.throughput()),
        arms=_arms(progress, sight),
        parity=parity(sight.served) if sight.served else {},
        model_bytes=model_bytes(sight.served) if sight.served else {},
    )


def _label_to_live(ledger: Ledger, progress: Progress, sight: ServiceSnapshot) -> Percentiles:
    labels = ledger.labels()
    any_arm = {arm for arm, _ in progress.first_ms}
    of_any, of_stable = (label_to_live(labels, _services(progress, sight, arms)) for arms in (any_arm, {STABLE}))
    stable = percentiles(of_stable, 50, 95)
    return {**percentiles(of_any, 50, 95), **{f"stable_{name}": value for name, value in stable.items()}}


def _services(progress: Progress, sight: ServiceSnapshot, arms: Collection[ArmName]) -> list[VersionTimes]:
    """The versions that answered in any of the arms. One whose manifest was never seen covers nothing."""
    return [
        VersionTimes(sight.through[version], first_ms)
        for (arm, version), first_ms in progress.first_ms.items()
        if arm in arms and version in sight.through
    ]


def _arms(progress: Progress, sight: ServiceSnapshot) -> dict[ArmName, dict[str, float]]:
    names = dict.fromkeys([*progress.arms, *(arm.name for arm in (sight.plan.arms if sight.plan else ()))])
    return {name: _arm(name, progress, sight) for name in names}


def _arm(name: ArmName, progress: Progress, sight: ServiceSnapshot) -> dict[str, float]:
    hits = progress.arms.get(name, Hits())
    newest = max((version for arm, version in progress.first_ms if arm == name), default=0)
    arm = sight.plan.arm(name) if sight.plan else None
    version = arm.version if arm else newest
    return {"version": version, "answers": hits.answered, "accuracy": round(hits.accuracy, 2)}
