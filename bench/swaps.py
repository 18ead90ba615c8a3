"""Measures the cost of a change of version to the traffic: 200 swaps and 100 rollbacks, at 200 events a second.

    the stable version --> head rows and labels rotated by its number, the number in each label --> store, plan

    swap_stall    200 times a new version --> how long each swap stalls the batches, and mixed answers
    rollback      100 times a new stable version, then a rollback --> time of the last answer by the new version

**Versions.** Learner and controller are stopped, and this process publishes fake versions, which differ only in their
heads. An answer is right only if its weights, its labels and the version that it names belong to one version, because
rows and labels that are rotated by different numbers give a wrong label. All versions answer in one precision, their
best. Otherwise a text between two labels could get another label in another precision, although no versions are mixed.

**Stall.** A stall is the whole pause before the first batch after a swap. With each stall the replica reports the pause
before the last batch without a swap. These two form a pair that was measured within the same minute. The cost of a swap
is the mean difference of the pairs, with its confidence interval.

**Rollback.** A rollback begins with the operator's command, and ends with the last answer under an earlier plan, by the
time that the replica writes into the answer. So it includes all that delays the traffic: the write of the plan, its
notification, the swap, and the batch that was under way.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import mean
from time import monotonic, sleep
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from bench.harness.case import Run
from bench.harness.service import Service, follows_plan
from evals.load.readback import TopicContents, read_back
from evals.load.score import audit, percentiles
from evals.load.session import Participants
from evals.results.row import Row
from evals.streams.stream import Arrival, StreamItem
from model.qtensor import QTensor, from_blob
from rollout.operator import Operator
from wire.bus import read_all_records
from wire.records import STABLE, Answer, Arm, WeightManifest
from wire.store import Lease, Store
from wire.timestamps import now_ms

T = TypeVar("T")

HEAD = "head.out"
LEASE_MS = 120_000
LEASE_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class VersionFaker:
    """Publishes fake versions instead of the learner, and writes plans instead of the controller."""

    store: Store
    lease: Lease
    first: WeightManifest
    head: QTensor

    @classmethod
    def from_stable(cls, store: Store, lease_name: str) -> "VersionFaker":
        """Makes a faker from the stable version. Waits until the lease of the stopped learner has expired."""
        plan = store.plans.read()
        assert plan is not None, "the service has no plan"
        first = store.versions.manifest(plan.stable)
        entry = next(tensor for tensor in first.tensors if tensor.name == HEAD)
        head = from_blob(entry, store.blobs.get(entry.digest, entry.num_bytes))
        return cls(store, _acquire_lease(store, lease_name), first, head)

    def publish(self) -> int:
        """Publishes a new version and makes it stable; returns the revision of its plan."""
        version = self.store.versions.next_number()
        self.store.versions.publish(self._version(version), self.lease)
        plan = self.store.plans.read()
        assert plan is not None
        arms = (Arm(name=STABLE, version=version, share=1.0),)
        after = msgspec.structs.replace(
            plan, revision=plan.revision + 1, arms=arms, previous=plan.stable, reason="bench", time_ms=now_ms()
        )
        self.store.plans.write(after)
        return after.revision

    def _version(self, version: int) -> WeightManifest:
        first = self.first
        shift = version % len(self.first.labels)
        blob = rotate_rows(self.head, shift, num_labels=len(first.labels)).to_blob()
        digest = self.store.blobs.put(blob)
        tensors = tuple(
            msgspec.structs.replace(entry, digest=digest, num_bytes=len(blob)) if entry.name == HEAD else entry
            for entry in first.tensors
        )
        probes = tuple(msgspec.structs.replace(each, logits=rotate(each.logits, shift)) for each in first.probes)
        return msgspec.structs.replace(
            first,
            version=version,
            parent=self.store.versions.current(),
            labels=tuple(versioned(label, version) for label in rotate(first.labels, shift)),
            precisions=first.precisions[:1],
            tensors=tensors,
            probes=probes,
            epoch=self.lease.epoch,
            created_ms=now_ms(),
        )


def versioned(label: str, version: int) -> str:
    """Returns the label with the number of its version, as the fake version answers it."""
    return f"{label}@{version}"


def unversioned(answer: Answer) -> str | None:
    """Returns the label of an answer without the version's number; None if the label belongs to another version."""
    label = answer.label or ""
    suffix = versioned("", answer.weights_version)
    return label.removesuffix(suffix) if label.endswith(suffix) else None


def is_mixed(answer: Answer, expected: str | None) -> bool:
    """Returns whether an answer differs from the label `expected`, which every version must give to its text."""
    return expected is None or unversioned(answer) != expected


def rotate_rows(head: QTensor, shift: int, *, num_labels: int) -> QTensor:
    """Rotates the rows of the labels down by `shift`, so that the last rows become the first. Spare rows stay."""
    parts = {name: part.clone() for name, part in head.parts.items()}
    for part in parts.values():
        part[:num_labels] = part[:num_labels].roll(shift, 0)
    return QTensor(head.name, head.scheme, parts)


def rotate(values: tuple[T, ...], shift: int) -> tuple[T, ...]:
    return values[-shift:] + values[:-shift] if shift else values


def _acquire_lease(store: Store, name: str) -> Lease:
    end_s = monotonic() + LEASE_LIMIT_S
    while (lease := store.leases.acquire(name, "bench", LEASE_MS)) is None:
        if monotonic() > end_s:
            raise RuntimeError(f"the lease {name!r} did not expire within {LEASE_LIMIT_S:g} s")
        # Nothing notifies us when a lease expires.
        sleep(0.2)
    return lease


NUM_SWAPS = 200
EVERY_S = 0.3
"""The shortest time between two versions, in seconds: about the time to publish a version and to observe its swap."""
LOAD_S = 1.3 * EVERY_S * NUM_SWAPS
"""The duration of the load. It is longer than all swaps, because a swap that no batch follows has no stall."""
RATE = 200.0
NUM_TEXTS = 400
TAKE_S = 30.0
RESAMPLES = 10_000

Pair = tuple[float, float]
"""The stall of a swap and the pause before it, in milliseconds."""


def measure_swaps(run: Run) -> Iterator[Row]:
    service = run.service()
    # From now on this process publishes the versions and writes the plans.
    service.stack.stop("learner", "rollout")
    faker = VersionFaker.from_stable(service.store, service.settings.learner.lease_name)
    texts = service.items[:: max(1, len(service.items) // NUM_TEXTS)]
    before = _answers_before(service, faker, texts)
    with service.unlabelled(RATE) as participants, ThreadPoolExecutor(1) as threads:
        participants.watcher.wait(lambda snapshot: bool(snapshot.reports), TAKE_S)
        # The first report also has the last swaps before this session.
        num_earlier = len(_pairs(participants))
        playing = threads.submit(participants.player.play, "bench", _load(texts), RATE)
        num_swaps = _swap(faker, participants, playing)
        participants.player.await_answers(at_most=0)
        # The last stall comes with the next report.
        sleep(2 * service.settings.serving.report_interval_s)
        pairs = _pairs(participants)[num_earlier:]
        ledger = participants.ledger
        contents = read_back(service.bus, TopicContents(ledger.number_of), [Answer])
        errors = audit(ledger.progress().counts.sent, contents.answers)
        mixed = sum(is_mixed(answer, before[answer.text]) for answer in _answers(service, participants))
    # No other case can use a service without a learner.
    run.stop_service()
    yield from stall_rows(pairs)
    yield Row.of("swap_stall.swaps", num_swaps, "swaps", goal=f">= {NUM_SWAPS}")
    yield Row.of("swap_stall.failed", errors.lost + errors.duplicates, "answers", goal="<= 0")
    yield Row.of("swap_stall.mixed", mixed, "answers", goal="<= 0")


def _pairs(participants: Participants) -> list[Pair]:
    snapshot = participants.watcher.snapshot()
    return list(zip(snapshot.stalls_ms, snapshot.pauses_ms, strict=True))


def stall_rows(pairs: Sequence[Pair]) -> Iterator[Row]:
    """Makes the rows of the stalls. They have no value unless there is a pair for each swap."""
    # A swap that no batch waited for is reported as 0 and 0.
    pairs = [pair for pair in pairs if any(pair)]
    is_whole = len(pairs) == NUM_SWAPS
    note = "" if is_whole else f"{len(pairs)} stalls were reported, {NUM_SWAPS} expected"
    stalls = percentiles([stall_ms for stall_ms, _ in pairs if is_whole], 50, 99)
    pauses = percentiles([pause_ms for _, pause_ms in pairs if is_whole], 50, 99)
    yield Row.of("swap_stall.p99", stalls["p99"], "ms", goal="<= 1", note=note)
    yield Row.of("swap_stall.p50", stalls["p50"], "ms", note=note)
    yield Row.of("swap_stall.pause_p99", pauses["p99"], "ms without a swap", note=note)
    yield Row.of("swap_stall.pause_p50", pauses["p50"], "ms without a swap", note=note)
    most_ms = None
    if is_whole:
        added_ms = [stall_ms - pause_ms for stall_ms, pause_ms in pairs]
        least_ms, most_ms = mean_interval(added_ms)
        note = f"mean {mean(added_ms):.3f} ms, 95 % interval {least_ms:.3f} to {most_ms:.3f}"
    yield Row.of("swap_stall.added", most_ms, "ms a swap, at most", goal="<= 1", note=note)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % confidence interval of the mean, by a percentile bootstrap (Efron and Tibshirani 1993, 13.3)."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    least, most = np.percentile(means, (2.5, 97.5))
    return round(float(least), 3), round(float(most), 3)


def _load(texts: tuple[StreamItem, ...]) -> list[Arrival]:
    """Makes a stream that lasts longer than the swaps."""
    return _arrivals(islice(cycle(texts), round(RATE * LOAD_S)))


def _arrivals(texts: Iterable[StreamItem]) -> list[Arrival]:
    return [Arrival(item, 0) for item in texts]


def _answers_before(service: Service, faker: VersionFaker, texts: tuple[StreamItem, ...]) -> Mapping[str, str | None]:
    """Returns the label of each text by a single version. Later versions must give the same labels to the texts."""
    with service.unlabelled(RATE) as participants:
        participants.watcher.wait(follows_plan(faker.publish()), TAKE_S)
        participants.player.play("bench", _arrivals(texts), RATE)
        participants.player.await_answers(at_most=0)
        return {answer.text: unversioned(answer) for answer in _answers(service, participants)}


def _answers(service: Service, participants: Participants) -> Iterator[Answer]:
    """Yields the answers to the events of this session."""
    for record in read_all_records(service.bus, [Answer]):
        if participants.ledger.number_of(record.event_id) is not None:
            yield record


def _swap(faker: VersionFaker, participants: Participants, playing: "Future[None]") -> int:
    """Publishes versions at a steady rate; returns the number of versions that all replicas took within TAKE_S."""
    num_swaps = 0
    next_s = monotonic()
    for _ in range(NUM_SWAPS):
        sleep(max(0.0, next_s - monotonic()))
        next_s = monotonic() + EVERY_S
        num_swaps += participants.watcher.wait(follows_plan(faker.publish()), TAKE_S)
    playing.result()
    return num_swaps


NUM_ROLLBACKS = 100


CHUNK = round(RATE)
"""The number of texts that are played at once, so that the load ends at most a second after the last rollback."""


class Rollback(NamedTuple):
    """The time of a rollback command, and the revision of its plan."""

    time_ms: int
    revision: int


class Answered(NamedTuple):
    """The time of an answer, and the revision of its plan."""

    time_ms: int
    revision: int


def measure_rollbacks(run: Run) -> Iterator[Row]:
    service = run.service()
    # From now on this process publishes the versions and writes the plans.
    service.stack.stop("learner", "rollout")
    faker = VersionFaker.from_stable(service.store, service.settings.learner.lease_name)
    with service.unlabelled(RATE) as participants, ThreadPoolExecutor(1) as threads:
        rollbacks = deque[Rollback]()
        rolling_back = threads.submit(_roll_back, service, faker, participants, rollbacks)
        texts = cycle(service.items)
        while not rolling_back.done():
            participants.player.play("bench", [Arrival(item, 0) for item in islice(texts, CHUNK)], RATE)
        rolling_back.result()
        participants.player.await_answers(at_most=0)
        answers = [
            Answered(record.time_ms, record.rollout_revision)
            for record in read_all_records(service.bus, [Answer])
            if participants.ledger.number_of(record.event_id) is not None
        ]
    # No other case can use a service without a learner.
    run.stop_service()
    yield from rollback_rows(rollbacks, answers)


def rollback_rows(rollbacks: Sequence[Rollback], answers: Sequence[Answered]) -> Iterator[Row]:
    """Makes the rows of the rollbacks. They have no value unless all replicas followed every rollback."""
    late_s = seconds_to_the_last_answer(rollbacks, answers)
    is_whole = len(late_s) == NUM_ROLLBACKS
    note = "" if is_whole else f"{len(late_s)} rollbacks were followed within {TAKE_S:g} s, {NUM_ROLLBACKS} expected"
    seconds = percentiles(late_s if is_whole else [], 50, 99)
    yield Row.of("rollback.p99", seconds["p99"], "s", goal="<= 1", note=note)
    yield Row.of("rollback.p50", seconds["p50"], "s", note=note)


def seconds_to_the_last_answer(rollbacks: Sequence[Rollback], answers: Sequence[Answered]) -> list[float]:
    """Returns for each rollback the seconds to the last answer under an earlier plan; 0 if none came after it.

    >>> seconds_to_the_last_answer([Rollback(1000, 5)], [Answered(900, 4), Answered(1020, 4), Answered(1030, 5)])
    [0.02]
    """
    last_ms = dict[int, int]()
    for answer in answers:
        last_ms[answer.revision] = max(last_ms.get(answer.revision, 0), answer.time_ms)
    late_s = list[float]()
    for rollback in rollbacks:
        last = max((time_ms for revision, time_ms in last_ms.items() if revision < rollback.revision), default=0)
        late_s.append(round(max(last - rollback.time_ms, 0) / 1000, 3))
    return late_s


def _roll_back(service: Service, faker: VersionFaker, participants: Participants, rollbacks: "deque[Rollback]") -> None:
    """Repeatedly publishes a version and rolls it back. Each step waits until every replica follows the plan."""
    operator = Operator(service.store, name="the benchmark")
    for _ in range(NUM_ROLLBACKS):
        participants.watcher.wait(follows_plan(faker.publish()), TAKE_S)
        begun_ms = now_ms()
        plan = operator.rollback(now_ms=begun_ms)
        if participants.watcher.wait(follows_plan(plan.revision), TAKE_S):
            rollbacks.append(Rollback(begun_ms, plan.revision))
