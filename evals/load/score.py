"""What the figures of the demo mean. Pure: numbers in, figures out; accuracies in percent, times as the names say.

- first seen: the answer that was given before the label came back (prequential). Not answered counts as wrong.
- by stage: row r, column s is the accuracy on the test items of stage s after stage r. Test items are never labelled.
- label to live: from a label's time stamp to the first answer under a version whose offsets cover the label. A label
  that was never covered counts as infinitely late: it moves the percentiles instead of leaving them.
- lost, duplicates: the ids found in the whole answers topic against the ids that were sent.

Rejected: scoring the learner's own evaluation. What counts is what the service answered.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evals.continual.measures import Row
from wire.records import TensorEntry, WeightManifest

Percentiles = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Hits:
    """Answers to events of one kind: how many were sent, answered, and answered with the right label."""

    sent: int = 0
    answered: int = 0
    right: int = 0

    @property
    def accuracy(self) -> float:
        """Percent of what was sent; 0 where nothing was."""
        return 100.0 * self.right / self.sent if self.sent else 0.0

    def __add__(self, other: "Hits") -> "Hits":
        return Hits(self.sent + other.sent, self.answered + other.answered, self.right + other.right)


@dataclass(frozen=True, slots=True)
class Label:
    """A label as it lies in the feedback topic: when it was said, and where. `source` is `topic/partition`."""

    time_ms: int
    source: str
    offset: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """Answers, the time of the first event and of the last answer."""

    answers: int
    began_ms: int
    ended_ms: int

    def until(self, time_ms: int) -> "Throughput":
        """With one answer more, given at `time_ms`."""
        return Throughput(self.answers + 1, self.began_ms, max(self.ended_ms, time_ms))


@dataclass(frozen=True, slots=True)
class VersionTimes:
    """When a version gave its first answer, and the offsets that it was trained through."""

    trained_through: Mapping[str, int]
    first_answer_ms: int


@dataclass(frozen=True, slots=True)
class Audit:
    """What the answers topic holds of the events that were sent: numbers never found, and second findings."""

    found: int
    lost: int
    duplicates: int


def per_second(phases: Iterable[Throughput]) -> float:
    """Answers a second over several phases; the pauses between them do not count.

    >>> per_second([Throughput(30, 1_000, 2_000), Throughput(10, 9_000, 10_000)])
    20.0
    """
    known = list(phases)
    seconds = sum(each.ended_ms - each.began_ms for each in known) / 1000
    return round(sum(each.answers for each in known) / seconds, 1) if seconds else 0.0


def accuracy_by_stage(hits: Mapping[tuple[int, int], Hits], num_rounds: int) -> tuple[Row, ...]:
    """The matrix: row r has the stages 0..r. `hits` is keyed by (round, stage).

    >>> accuracy_by_stage({(0, 0): Hits(4, 4, 4), (1, 0): Hits(4, 4, 3), (1, 1): Hits(2, 2, 2)}, 2)
    ((100.0,), (75.0, 100.0))
    """
    return tuple(tuple(hits.get((r, s), Hits()).accuracy for s in range(r + 1)) for r in range(num_rounds))


def percentiles(values: Iterable[float], *ranks: int) -> Percentiles:
    """Nearest-rank percentiles by name, rounded; None where there are no values or the value is infinite.

    >>> percentiles([3.0, 1.0, 2.0, math.inf], 50, 99)
    {'p50': 2.0, 'p99': None}
    """
    ordered = sorted(values)
    return {f"p{rank}": _finite(_nearest(ordered, rank)) for rank in ranks}


def label_to_live(labels: Iterable[Label], services: Iterable[VersionTimes]) -> list[float]:
    """Seconds from each label to the first answer under a version that covers it; infinity where there was none.

    Versions need not come in order, and a later version may cover less (after a rollback the learner goes back).
    """
    known = list(services)
    first_live = {
        source: _FirstLive(source, known) for source in {key for each in known for key in each.trained_through}
    }
    return [
        max(0.0, first_live[label.source].after(label.offset) - label.time_ms) / 1000
        if label.source in first_live
        else math.inf
        for label in labels
    ]


def audit(num_sent: int, numbers: Iterable[int | None]) -> Audit:
    """Compares the events 0..num_sent with the numbers found in the answers topic; None is an event of another run.

    >>> audit(3, [0, 2, None, 2])
    Audit(found=2, lost=1, duplicates=1)
    """
    seen = bytearray(num_sent)
    duplicates = 0
    for number in numbers:
        if number is not None and 0 <= number < num_sent:
            duplicates += seen[number]
            seen[number] = 1
    found = sum(seen)
    return Audit(found=found, lost=num_sent - found, duplicates=duplicates)


def model_bytes(manifest: WeightManifest) -> dict[str, int]:
    """Bytes of the weights as they are served, and of the same weights in fp32."""
    return {"fp32": sum(_fp32_bytes(tensor) for tensor in manifest.tensors), "served": manifest.num_bytes}


def parity(manifest: WeightManifest) -> dict[str, float]:
    """How near the served precision is to full precision, as the learner measured before it published."""
    best = manifest.precisions[0]
    return {"cosine": best.cosine, "agreement": best.agreement}


class _FirstLive:
    """For one partition: when the first answer came that covers a given offset."""

    def __init__(self, source: str, services: Sequence[VersionTimes]) -> None:
        steps = sorted(
            (each.trained_through[source], each.first_answer_ms) for each in services if source in each.trained_through
        )
        self._ends = [end for end, _ in steps]
        self._first_ms: list[float] = []
        earliest = math.inf
        for _, first_ms in reversed(steps):
            earliest = min(earliest, first_ms)
            self._first_ms.append(earliest)
        self._first_ms.reverse()

    def after(self, offset: int) -> float:
        """Milliseconds since the epoch; infinity where no version covers `offset`."""
        place = bisect_right(self._ends, offset)  # an end is the next offset to read: it must be above
        return self._first_ms[place] if place < len(self._ends) else math.inf


def _fp32_bytes(tensor: TensorEntry) -> int:
    """Of what full precision has too. A weight is a byte of `q`, or half a byte of `hi` and one of `lo`."""
    kept = (part for part in tensor.parts if tensor.scheme == "fp32" or part.name in ("q", "hi", "lo", "bias"))
    return 4 * sum(math.prod(part.shape) for part in kept)


def _nearest(ordered: Sequence[float], rank: int) -> float:
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else math.inf


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
