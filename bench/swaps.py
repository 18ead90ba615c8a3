"""Measures what a change of version costs the traffic: 200 swaps and 100 rollbacks, at 200 events a second.

    the stable version --> head rows and labels rotated by its number, the number in each label --> store, plan

    swap_stall    200 times a new version --> how long each stalls the batches, and whether an answer mixes versions
    rollback      100 times a new stable version, then a rollback --> the last answer by the new one

Learner and controller are stopped; versions are faked, and differ in their head alone. An answer is right only if its
weights, its labels and the version that it names belong to one version: rows that are rotated by another number than
the labels give another label. The versions answer in one precision, their best: another precision may give the other
label for a text that lies between two labels, although no versions are mixed.

A stall is the whole pause before the first batch after a swap. With each stall the replica reports the pause before the
last batch without a swap: a pair, which the same minute of the machine has made. What a swap adds is the mean of the
differences of the pairs, with its interval.

A rollback begins with the operator's command, and ends with the last answer under an earlier plan, whose time the
replica has written into it. So it counts what traffic sees: the plan's write, its notice, the swap, and the batch that
was under way.
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
from wire.bus import every_record
from wire.records import STABLE, Answer, Arm, WeightManifest
from wire.store import Lease, Store
from wire.timestamps import now_ms

T = TypeVar("T")

HEAD = "head.out"
LEASE_MS = 120_000
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class VersionFaker:
    """Publishes in the place of the learner, and writes plans in the place of the controller."""

    store: Store
    lease: Lease
    first: WeightManifest
    head: QTensor

    @classmethod
    def of(cls, store: Store, lease_name: str) -> "VersionFaker":
        """Begins with the stable version. Waits until the lease of the learner that was stopped has expired."""
        plan = store.plans.read()
        assert plan is not None, "the service has no plan"
        first = store.versions.manifest(plan.stable)
        entry = next(tensor for tensor in first.tensors if tensor.name == HEAD)
        head = from_blob(entry, store.blobs.get(entry.digest, entry.num_bytes))
        return cls(store, _lease(store, lease_name), first, head)

    def publish(self) -> int:
        """Makes one more version the stable one; returns the revision of its plan."""
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
        blob = rotated(self.head, shift, num_labels=len(first.labels)).to_blob()
        digest = self.store.blobs.put(blob)
        tensors = tuple(
            msgspec.structs.replace(entry, digest=digest, num_bytes=len(blob)) if entry.name == HEAD else entry
            for entry in first.tensors
        )
        probes = tuple(msgspec.structs.replace(each, logits=_rotate(each.logits, shift)) for each in first.probes)
        return msgspec.structs.replace(
            first,
            version=version,
            parent=self.store.versions.current(),
            labels=tuple(versioned(label, version) for label in _rotate(first.labels, shift)),
            precisions=first.precisions[:1],
            tensors=tensors,
            probes=probes,
            epoch=self.lease.epoch,
            created_ms=now_ms(),
        )


def versioned(label: str, version: int) -> str:
    """Returns the label as `version` answers it."""
    return f"{label}@{version}"


def unversioned(answer: Answer) -> str | None:
    """Returns the label of an answer without its version's number; None where the label belongs to another version."""
    label = answer.label or ""
    suffix = versioned("", answer.weights_version)
    return label.removesuffix(suffix) if label.endswith(suffix) else None


def is_mixed(answer: Answer, expected: str | None) -> bool:
    """Whether the answer differs from what its version must answer for a text whose label was `expected` before."""
    return expected is None or unversioned(answer) != expected


def rotated(head: QTensor, shift: int, *, num_labels: int) -> QTensor:
    """Rotates the rows of the labels down by `shift`; the last ones come to the top. Spare rows stay."""
    parts = {name: part.clone() for name, part in head.parts.items()}
    for part in parts.values():
        part[:num_labels] = part[:num_labels].roll(shift, 0)
    return QTensor(head.name, head.scheme, parts)


def _rotate(values: tuple[T, ...], shift: int) -> tuple[T, ...]:
    return values[-shift:] + values[:-shift] if shift else values


def _lease(store: Store, name: str) -> Lease:
    end_s = monotonic() + PATIENCE_S
    while (lease := store.leases.acquire(name, "bench", LEASE_MS)) is None:
        if monotonic() > end_s:
            raise RuntimeError(f"the lease {name!r} did not run out within {PATIENCE_S:g} s")
        sleep(0.2)  # a lease expires without a notice
    return lease


NUM_SWAPS = 200
EVERY_S = 0.3
"""Least time between two versions: about what it takes to publish one and to see its swap, as the watcher polls."""
LOAD_S = 1.3 * EVERY_S * NUM_SWAPS
"""How long the load lasts: longer than the swaps, since one that no batch follows has no stall."""
RATE = 200.0
NUM_TEXTS = 400
TAKE_S = 30.0
RESAMPLES = 10_000

Pair = tuple[float, float]
"""The stall of a swap and the pause before it, in milliseconds."""


def measure_swaps(run: Run) -> Iterator[Row]:
    service = run.service()
    service.stack.stop("learner", "rollout")  # versions and plans come from this process now
    faker = VersionFaker.of(service.store, service.settings.learner.lease_name)
    texts = service.items[:: max(1, len(service.items) // NUM_TEXTS)]
    before = _answers_before(service, faker, texts)
    with service.unlabelled(RATE) as participants, ThreadPoolExecutor(1) as threads:
        participants.watcher.wait(lambda snapshot: bool(snapshot.reports), TAKE_S)
        num_earlier = len(_pairs(participants))  # the first report has the last swaps before this session, too
        playing = threads.submit(participants.player.play, "bench", _load(texts), RATE)
        num_swaps = _swap(faker, participants, playing)
        participants.player.await_answers(at_most=0)
        sleep(2 * service.settings.serving.report_interval_s)  # the last stall comes with the next report
        pairs = _pairs(participants)[num_earlier:]
        ledger = participants.ledger
        back = read_back(service.bus, TopicContents(ledger.number_of), [Answer])
        found = audit(ledger.progress().counts.sent, back.answers)
        mixed = sum(is_mixed(answer, before[answer.text]) for answer in _answers(service, participants))
    run.stop_service()  # it has no learner any more
    yield from stall_rows(pairs)
    yield Row.of("swap_stall.swaps", num_swaps, "swaps", goal=f">= {NUM_SWAPS}")
    yield Row.of("swap_stall.failed", found.lost + found.duplicates, "answers", goal="<= 0")
    yield Row.of("swap_stall.mixed", mixed, "answers", goal="<= 0")


def _pairs(participants: Participants) -> list[Pair]:
    snapshot = participants.watcher.snapshot()
    return list(zip(snapshot.stalls_ms, snapshot.pauses_ms, strict=True))


def stall_rows(pairs: Sequence[Pair]) -> Iterator[Row]:
    """Makes the rows of the pairs, which have no value unless there is a pair for each swap."""
    pairs = [pair for pair in pairs if any(pair)]  # a swap that no batch waited for is reported as 0 and 0
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
    """Returns the 95 % interval of the mean, by the percentiles of a bootstrap (Efron and Tibshirani 1993, 13.3)."""
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
    """Lets one version alone answer each text. Later versions must give the same answers, each in its own labels."""
    with service.unlabelled(RATE) as participants:
        participants.watcher.wait(follows_plan(faker.publish()), TAKE_S)
        participants.player.play("bench", _arrivals(texts), RATE)
        participants.player.await_answers(at_most=0)
        return {answer.text: unversioned(answer) for answer in _answers(service, participants)}


def _answers(service: Service, participants: Participants) -> Iterator[Answer]:
    """Yields the answers to the events of this session."""
    for record in every_record(service.bus, [Answer]):
        if participants.ledger.number_of(record.event_id) is not None:
            yield record


def _swap(faker: VersionFaker, participants: Participants, playing: "Future[None]") -> int:
    """Publishes at a steady rate; returns how many versions every replica swapped in within TAKE_S."""
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
"""The texts that are played at once: the load ends at most a second after the last rollback."""


class Rollback(NamedTuple):
    """When a rollback was asked for, and the revision of its plan."""

    time_ms: int
    revision: int


class Answered(NamedTuple):
    """When an answer was given, and the revision of the plan it was given under."""

    time_ms: int
    revision: int


def measure_rollbacks(run: Run) -> Iterator[Row]:
    service = run.service()
    service.stack.stop("learner", "rollout")  # versions and plans come from this process now
    faker = VersionFaker.of(service.store, service.settings.learner.lease_name)
    with service.unlabelled(RATE) as participants, ThreadPoolExecutor(1) as threads:
        rollbacks = deque[Rollback]()
        going = threads.submit(_roll_back, service, faker, participants, rollbacks)
        texts = cycle(service.items)
        while not going.done():
            participants.player.play("bench", [Arrival(item, 0) for item in islice(texts, CHUNK)], RATE)
        going.result()
        participants.player.await_answers(at_most=0)
        answers = [
            Answered(record.time_ms, record.rollout_revision)
            for record in every_record(service.bus, [Answer])
            if participants.ledger.number_of(record.event_id) is not None
        ]
    run.stop_service()  # it has no learner any more
    yield from rollback_rows(rollbacks, answers)


def rollback_rows(rollbacks: Sequence[Rollback], answers: Sequence[Answered]) -> Iterator[Row]:
    """Makes the rows of the rollbacks, which have no value unless all were followed."""
    late_s = seconds_to_the_last_answer(rollbacks, answers)
    is_whole = len(late_s) == NUM_ROLLBACKS
    note = "" if is_whole else f"{len(late_s)} rollbacks were followed within {TAKE_S:g} s, {NUM_ROLLBACKS} expected"
    seconds = percentiles(late_s if is_whole else [], 50, 99)
    yield Row.of("rollback.p99", seconds["p99"], "s", goal="<= 1", note=note)
    yield Row.of("rollback.p50", seconds["p50"], "s", note=note)


def seconds_to_the_last_answer(rollbacks: Sequence[Rollback], answers: Sequence[Answered]) -> list[float]:
    """Returns for each rollback the seconds to the last answer under an earlier plan; 0 where none came after it.

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
    """Publishes a version and rolls it back, again and again, each time when every replica follows."""
    operator = Operator(service.store, name="the benchmark")
    for _ in range(NUM_ROLLBACKS):
        participants.watcher.wait(follows_plan(faker.publish()), TAKE_S)
        begun_ms = now_ms()
        plan = operator.rollback(now_ms=begun_ms)
        if participants.watcher.wait(follows_plan(plan.revision), TAKE_S):
            rollbacks.append(Rollback(begun_ms, plan.revision))
