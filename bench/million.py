"""Measures a learner of many classes over many labels: its speed, its memory, its stored data, and its accuracy.

    pairs of CLINC150's classes: texts joined --> answers with vectors, labels --Learner, WeightPublisher--> checkpoints
                                                                                                         --> Redis
    first tenth of the labels, ..., last tenth --> Reading of each

Everything is as in the service except Kafka: labels are passed to the learner as if it had polled them.

**Speed.** The speed is the processor time of the learner's thread a label, publications and checkpoints included. The
learner's clock runs only while its own code runs, so other load on the machine has no effect. The rows' notes include
the processor time of other threads, which solve and write. The encoder is frozen, because slow rounds run in a thread
of their own and their time does not depend on the number of classes.

**Accuracy.** A text comes in several events, but no event comes twice. Every label is scored before it is learnt, with
the version that is published at that time.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from bench.harness.case import Run
from bench.harness.process import stopping
from bench.harness.texts import clinc150, joined_pairs
from evals.results.row import Row
from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.publisher import WeightPublisher
from learner.rounds.worker import worker_thread
from learner.state.checkpoints import Checkpoints
from learner.stopwatch import Clocks
from model.bert import load_encoder
from rollout.config import RolloutConfig
from rollout.controller import versions_to_keep
from rollout.publication_rule import verdict
from services.local.redis import start_redis
from wire.config import StoreConfig
from wire.keyring import parse
from wire.receipts import Receipts
from wire.records import STABLE, Answer, Feedback
from wire.store import Store
from wire.timestamps import now_ms

KEYS = parse("a key for this measurement alone")

TENTHS = 10

NUM_SOURCES = 5

COLLECT_S = 5.0
"""The time between two removals of old versions, which the rollout does in a service."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """The size of the benchmark: `texts` counts the texts of each class, `batch` the labels of a poll."""

    labels: int = 1_000_000
    classes: int = 10_000
    texts: int = 10
    batch: int = 100
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The measurements of a tenth of the labels: milliseconds a label, megabytes, and accuracy in percent."""

    num_labels: int
    thread_ms: float
    process_ms: float
    resident_mb: float
    redis_mb: float
    checkpoint_mb: float
    accuracy: float
    num_versions: int


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(Extent(), quick=Extent(labels=2_000, classes=100))
    items = joined_pairs(clinc150(size.seed), size.classes, per_class=size.texts, seed=size.seed)
    torch.set_num_threads(1)
    config = LearnerConfig(trainable_layers=0)
    with tempfile.TemporaryDirectory(prefix="million-") as name:
        folder = Path(name)
        with (
            stopping(start_redis(folder / "redis")) as redis,
            closing(Store(StoreConfig(url=redis.url, timeout_ms=60_000), KEYS)) as store,
        ):
            learner = ManyLabels(store, folder / "learner", items, config, "minilm-l6")
            readings = learner.learn(size, lambda: _resident_bytes(redis.process.pid), run.say)
            yield from rows(readings)


def rows(readings: Iterator[Reading]) -> Iterator[Row]:
    """Yields the rows of a run: speed and memory of the first and the last tenth, and the accuracy of every tenth."""
    done = list(readings)
    first = done[0]
    last = done[-1]
    pace = "<= 2"
    for name, reading in (("first", first), ("last", last)):
        note = f"{reading.process_ms:.2f} ms with what other threads did"
        yield _row(f"pace.{name}_tenth", reading.thread_ms, "ms/label", goal=pace, note=note)
    yield _row("memory.first_tenth", first.resident_mb, "MB")
    yield _row("memory.last_tenth", last.resident_mb, "MB")
    yield _row("checkpoint", max(each.checkpoint_mb for each in done), "MB", goal="<= 250")
    yield _row("redis", max(each.redis_mb for each in done), "MB", goal="<= 1024")
    yield _row("versions", sum(each.num_versions for each in done), "versions")
    for reading in done:
        yield _row(f"accuracy.{reading.num_labels}_labels", reading.accuracy, "%")


class ManyLabels:
    """A learner with its publisher, and events of `items` in random order."""

    def __init__(
        self, store: Store, folder: Path, items: Sequence[StreamItem], config: LearnerConfig, encoder: str
    ) -> None:
        # Processor time of this thread that does not belong to the learner.
        self._own_s = 0.0
        self._ended_s = time.thread_time()
        self._store = store
        self._folder = folder
        self._items = items
        self._receipts = Receipts(*KEYS.receipts)
        strata, tokenizer = load_encoder(encoder)
        slow = worker_thread("slow", niceness=config.niceness, threads=config.threads)
        self._learner = Learner(config, strata, tokenizer, receipts=self._receipts, executor=slow, rule=verdict)
        served = self._learner.fast_head.served
        self._encoding = served.known.encoding
        self._z_ND = served.z_many([item.text for item in items])
        checkpoints = Checkpoints(folder, num_newest=config.checkpoints)
        self._leadership = Leadership(store.leases, "learner", "bench", ttl_ms=60_000)
        self._leadership.acquire()
        clocks = Clocks(lambda: time.thread_time() - self._own_s, time.thread_time)
        self._publisher = WeightPublisher(
            self._learner, store, checkpoints, self._leadership, config=config, now_ms=now_ms, clocks=clocks
        )
        self._publisher.recover(None, {})
        self._publisher.checkpoint()
        self._num_right = 0
        self._num_events = 0
        self._collect_at_s = 0.0

    def learn(self, size: Extent, redis_bytes: Callable[[], int], say: Callable[[str], None]) -> Iterator[Reading]:
        """Learns the labels; yields a reading after each tenth of them."""
        rng = random.Random(size.seed)
        self._own_s += time.thread_time() - self._ended_s
        self._ended_s = time.thread_time()
        with self._leadership.renewal():
            for _ in range(TENTHS):
                reading = self._learn_tenth(size, rng, redis_bytes)
                say(str(reading))
                yield reading
            self._publisher.finish()

    def _learn_tenth(self, size: Extent, rng: random.Random, redis_bytes: Callable[[], int]) -> Reading:
        self._num_right = 0
        version = self._learner.version
        num_labels = size.labels // TENTHS
        thread_s = self._own_s - self._ended_s
        process_s = self._own_s - time.process_time()
        for first in range(0, num_labels, size.batch):
            num = min(size.batch, num_labels - first)
            self._learn_batch([rng.randrange(len(self._items)) for _ in range(num)])
        thread_s += self._ended_s - self._own_s
        process_s += time.process_time() - self._own_s
        return Reading(
            num_labels=self._num_events,
            thread_ms=round(1e3 * thread_s / num_labels, 3),
            process_ms=round(1e3 * process_s / num_labels, 3),
            resident_mb=round(_resident_bytes(os.getpid()) / 1e6),
            redis_mb=round(redis_bytes() / 1e6),
            checkpoint_mb=round(max(self._checkpoint_bytes(), default=0) / 1e6),
            accuracy=round(100 * self._num_right / num_labels, 2),
            num_versions=self._learner.version - version,
        )

    def _checkpoint_bytes(self) -> list[int]:
        return [path.stat().st_size for path in self._folder.glob("*.checkpoint")]

    def _learn_batch(self, places: Sequence[int]) -> None:
        """Does the work of the learner's process after a poll, and times it."""
        records = self._records(places)
        self._own_s += time.thread_time() - self._ended_s
        self._learner.learn_many(records, {f"{Feedback.TOPIC}/0": self._num_events})
        self._learner.tick()
        self._publisher.poll()
        self._ended_s = time.thread_time()
        if time.monotonic() > self._collect_at_s:
            self._collect()

    def _records(self, places: Sequence[int]) -> list[Answer | Feedback]:
        """Returns an answer of the published version, with its vector, and a label for each of these items."""
        records: list[Answer | Feedback] = []
        for place, predicted in zip(places, self._predicted(places), strict=True):
            item = self._items[place]
            self._num_events += 1
            self._num_right += predicted == item.label
            event_id = f"{self._num_events}"
            answer = Answer(
                event_id=event_id,
                text=item.text,
                label=predicted,
                score=0.0,
                weights_version=self._learner.version,
                arm=STABLE,
                precision="int8",
                rollout_revision=0,
                time_ms=self._num_events,
                vector=self._receipts.vector(item.text, self._z_ND[place].numpy().tobytes(), self._encoding),
            )
            source = f"source {self._num_events % NUM_SOURCES}"
            records += [answer, Feedback(event_id=event_id, label=item.label, source=source)]
        return records

    def _predicted(self, places: Sequence[int]) -> list[str | None]:
        """Returns the label that the published version predicts for each item; None before the first version."""
        live = self._publisher.last
        if live is None or not live.version.classes:
            return [None] * len(places)
        classes = live.version.classes
        logits_BC = live.version.head.logits(self._z_ND[list(places)], len(classes))
        return [classes[row] for row in logits_BC.argmax(dim=1).tolist()]

    def _collect(self) -> None:
        self._collect_at_s = time.monotonic() + COLLECT_S
        config = RolloutConfig()
        current = self._store.versions.current()
        limits = {"num_newest": config.keep_versions, "budget_bytes": config.keep_bytes}
        keep = versions_to_keep(self._store.versions.contents(), needed={current}, current=current, **limits)
        self._store.collector.collect(keep)


def _resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def _row(name: str, value: float, unit: str, *, goal: str | None = None, note: str = "") -> Row:
    return Row.of(f"million.{name}", value, unit, goal=goal, note=note)
