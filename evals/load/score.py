"""Computes the figures of the demo. Pure functions. Accuracies are in percent; the names of times have their units.

- first seen: the accuracy of the answers given before the label came back (prequential). A missing answer is wrong.
- by stage: a row has the accuracies on the test items of stages 0..r after stage r. Test items are never labelled.
- label to live: the time from a label's time stamp to the first answer under a version whose offsets cover the label. A
  label that was never covered counts as infinitely late, so it is not left out of the percentiles.
- publication: the time from reading a version's oldest label to the first answer by that version or a later one.
- lost, duplicates: the ids in the whole answers topic, compared with the ids that were sent.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

from evals.continual.measures import Row
from wire.records import ArmName, TensorEntry, WeightManifest

Percentiles = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Hits:
    """The numbers of events that were sent, answered, and answered rightly."""

    sent: int = 0
    answered: int = 0
    right: int = 0

    @property
    def accuracy(self) -> float:
        """Right answers in percent of the sent events, or 0 if none were sent."""
        return 100.0 * self.right / self.sent if self.sent else 0.0

    def __add__(self, other: "Hits") -> "Hits":
        return Hits(self.sent + other.sent, self.answered + other.answered, self.right + other.right)


@dataclass(frozen=True, slots=True)
class Label:
    """A label in the feedback topic: its time stamp and its position. `source` is `topic/partition`."""

    time_ms: int
    source: str
    offset: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """The number of answers, the time of the first event and the time of the last answer."""

    answers: int
    began_ms: int
    ended_ms: int

    def until(self, time_ms: int) -> "Throughput":
        """Returns the throughput with one more answer, at `time_ms`."""
        return Throughput(self.answers + 1, self.began_ms, max(self.ended_ms, time_ms))


@dataclass(frozen=True, slots=True)
class VersionTimes:
    """The offsets up to which a version was trained, by `topic/partition`, and the time of its first answer."""

    trained_through: Mapping[str, int]
    first_answer_ms: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of comparing the answers topic with the events that were sent."""

    found: int
    """The number of events with an answer."""
    lost: int
    """The number of events without an answer."""
    duplicates: int
    """The number of answers beyond the first answer to their event."""


def per_second(phases: Iterable[Throughput]) -> float:
    """Computes the answers a second over several phases, without the pauses between them.

    >>> per_second([Throughput(30, 1_000, 2_000), Throughput(10, 9_000, 10_000)])
    20.0
    """
    phases = list(phases)
    seconds = sum(phase.ended_ms - phase.began_ms for phase in phases) / 1000
    return round(sum(phase.answers for phase in phases) / seconds, 1) if seconds else 0.0


def accuracy_by_stage(hits: Mapping[tuple[int, int], Hits]) -> tuple[Row, ...]:
    """Computes the matrix of accuracies: a row for each round of tests, with the stages 0..r after stage r.

    `hits` is keyed by (round, stage). Rounds below 0 are not tests and are left out.

    >>> accuracy_by_stage({(0, 0): Hits(4, 4, 4), (1, 0): Hits(4, 4, 3), (1, 1): Hits(2, 2, 2)})
    ((100.0,), (75.0, 100.0))
    """
    rows: list[Row] = []
    for round in sorted({round for round, _ in hits if round >= 0}):
        rows.append(tuple(hits.get((round, stage), Hits()).accuracy for stage in range(round + 1)))
    return tuple(rows)


def percentiles(values: Iterable[float], *ranks: int) -> Percentiles:
    """Computes nearest-rank percentiles by name, rounded. A percentile is None if it is infinite or has no values.

    >>> percentiles([3.0, 1.0, 2.0, math.inf], 50, 99)
    {'p50': 2.0, 'p99': None}
    """
    ordered = sorted(values)
    return {f"p{rank}": finite(nearest_rank(ordered, rank), 3) for rank in ranks}


def nearest_rank(values: Iterable[float], rank: int) -> float:
    """Computes a nearest-rank percentile of values that may be infinite. Without values it is infinite.

    >>> nearest_rank([1.0, math.inf, 2.0], 50)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else math.inf


def finite(value: float, digits: int) -> float | None:
    """Returns a value rounded to `digits`, or None if it is infinite."""
    return round(value, digits) if math.isfinite(value) else None


def publications_ms(read_ms: Mapping[int, int], first_ms: Mapping[tuple[ArmName, int], int]) -> list[float]:
    """Computes the time from reading each version's oldest label to the first answer by it or a later version.

    `read_ms` is keyed by version, and `first_ms` by (arm, version). The time is infinite without such an answer.

    >>> publications_ms({2: 1_000, 3: 1_300}, {("newest", 3): 1_450, ("stable", 1): 900})
    [450, 150]
    """
    times_ms: list[float] = []
    for version, since_ms in read_ms.items():
        answers_ms = [moment_ms for (_, other), moment_ms in first_ms.items() if other >= version]
        times_ms.append(min(answers_ms, default=math.inf) - since_ms)
    return times_ms


def label_to_live(labels: Iterable[Label], services: Iterable[VersionTimes]) -> list[float]:
    """Computes the seconds from each label to the first answer by a version that covers it.

    They are infinite if no version covers the label. The versions may be in any order. A later version may cover less,
    since the learner goes back after a rollback.
    """
    versions = list(services)
    sources = set(chain.from_iterable(version.trained_through for version in versions))
    first_live = {source: _first_live(source, versions) for source in sources}
    delays_s = []
    for label in labels:
        if label.source in first_live:
            live_ms = first_live[label.source](label.offset)
            delays_s.append(max(0.0, live_ms - label.time_ms) / 1000)
        else:
            delays_s.append(math.inf)
    return delays_s


def audit(num_sent: int, copies: Mapping[int, int]) -> Audit:
    """Compares the sent events, 0 to num_sent - 1, with the number of answers to each event in the topic.

    >>> audit(3, {0: 1, 2: 2})
    Audit(found=2, lost=1, duplicates=1)
    """
    answers = [num for number, num in copies.items() if 0 <= number < num_sent]
    return Audit(found=len(answers), lost=num_sent - len(answers), duplicates=sum(answers) - len(answers))


def model_bytes(manifest: WeightManifest) -> dict[str, int]:
    """Returns the size of the weights in bytes, as they are served and in fp32."""
    return {"fp32": sum(_fp32_bytes(tensor) for tensor in manifest.tensors), "served": manifest.num_bytes}


def parity(manifest: WeightManifest) -> dict[str, float]:
    """Returns the similarity of the served precision to full precision, as the learner measured it."""
    best = manifest.precisions[0]
    return {"cosine": best.cosine, "agreement": best.agreement}


def _first_live(source: str, services: Sequence[VersionTimes]) -> Callable[[int], float]:
    """Returns a function from an offset in `source` to the time of the first answer by a version that covers it.

    The time is in milliseconds since the epoch. It is infinite if no version covers the offset.
    """
    versions = sorted(
        (each.trained_through[source], each.first_answer_ms) for each in services if source in each.trained_through
    )
    ends = [end for end, _ in versions]
    latest_first = accumulate((first_ms for _, first_ms in reversed(versions)), min)
    first_ms = [*latest_first][::-1]

    def first_live_ms(offset: int) -> float:
        # An end is the next offset to read, so a version covers an offset if its end is above it.
        index = bisect_right(ends, offset)
        return first_ms[index] if index < len(ends) else math.inf

    return first_live_ms


def _fp32_bytes(tensor: TensorEntry) -> int:
    """Returns the bytes of the tensor in fp32, which needs no scales or sums.

    The weights are in `q` (one byte each), or in `hi` and `lo` (half a byte each).
    """
    weights = (part for part in tensor.parts if tensor.scheme == "fp32" or part.name in ("q", "hi", "lo", "bias"))
    return 4 * sum(math.prod(part.shape) for part in weights)
