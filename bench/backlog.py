"""Measures how a learner catches up with a backlog, and with many labels that come a week after their answers.

    answers and labels, written as a service would write them --> Apache Kafka --> `lifelong learn` --> its counters
    answers, and labels that come long after them --> Apache Kafka --> AnswerFinder --> labels with texts

**Backlog.** Each label is some thousand answers behind its answer, as if labels came minutes late. The backlog is much
longer than the learner's windows, so the learner learns all of it only if it reads labels no further than answers.

**Late labels.** All labels are sent at once. The search passes over all answers once, and sends the labels again. It is
measured with all labels, and with few of them. The time with few labels, divided by the number of answers, is the time
of an answer, and the difference of the two is the time of the labels. The rows of labels that come a day or a week late
are computed from these: a week has more answers than can be written here. This is a pessimistic estimate: the time of
an answer contains the start of the search and the few labels.
"""

import os
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice, product
from pathlib import Path

from bench.harness.case import Run
from bench.harness.process import lifelong_command, stopping
from bench.harness.service import apache_kafka
from bench.harness.texts import clinc150
from evals.results.row import Row
from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.intake.answer_finder import AnswerFinder
from learner.intake.late_labels import LateLabels
from learner.intake.trust import LabelTrust
from services.keys import key_ring, with_signing_key
from services.local import children
from services.local.kafka import start_kafka
from services.local.logfile import RotatingLog
from services.local.redis import start_redis
from services.programs import open_store
from services.settings import Settings, as_environment, load, replaced
from wire.bus import Bus, Publisher
from wire.errors import StoreUnavailable
from wire.kinds import name_hash
from wire.receipts import Receipts, Verdicts
from wire.records import STABLE, Answer, Feedback, LearnerReport
from wire.timestamps import now_ms

POLL_INTERVAL_S = 0.2
IDLE_S = 60.0
"""If the learner's counters do not change for this many seconds, it has stopped reading."""

FLUSH_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BacklogSize:
    """The size of the backlog."""

    labels: int = 500_000
    """The number of labels that came while the learner was stopped."""
    behind: int = 5_000
    """The number of answers between an answer and its label."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The learner's counters at the end, and the seconds from the first label to the last."""

    counts: dict[str, int]
    took_s: float


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(BacklogSize(), quick=BacklogSize(labels=5_000, behind=500))
    result = catch_up(size)
    learnt = sum(result.counts.get(name, 0) for name in ("learnt", "holdout"))
    share = 100.0 * learnt / size.labels
    yield Row.of("backlog.labels", size.labels, "labels")
    yield Row.of("backlog.pace", round(size.labels / result.took_s), "labels/s")
    yield Row.of("backlog.learnt", round(share, 3), "% of the labels", goal=">= 99.9")


def catch_up(size: BacklogSize) -> CatchUp:
    """Lets a learner catch up with a backlog. Raises Skip without Apache Kafka or without data."""
    items = clinc150().train_items
    with own_servers() as settings, closing(open_store(settings)) as store:
        with closing(Bus(settings.bus, "backlog")) as bus:
            bus.create_topics()
            _write(bus.publisher(), items, size, Receipts(*key_ring(settings).receipts))
        learner = children.start(
            lifelong_command("learn"), log=RotatingLog(settings.state_dir / "learner.log"), env=as_environment(settings)
        )
        try:
            return _watch(store.reports.learner, learner, size.labels)
        finally:
            children.stop(learner)


@contextmanager
def own_servers() -> Iterator[Settings]:
    """Starts an Apache Kafka and a Redis; yields settings with their addresses."""
    home = apache_kafka()
    with tempfile.TemporaryDirectory(prefix="backlog-") as name:
        folder = Path(name)
        settings = load(file=Path(os.devnull), environ={}, flags={"state_dir": folder}).settings
        with (
            stopping(start_kafka(home, folder / "kafka")) as broker,
            stopping(start_redis(folder / "redis")) as redis,
        ):
            addresses = {"bus.bootstrap_servers": broker.bootstrap_servers, "store.url": redis.url}
            yield with_signing_key(replaced(settings, addresses), own_store=True)


def _write(publisher: Publisher, items: list[StreamItem], size: BacklogSize, receipts: Receipts) -> None:
    """Writes all answers and labels in the order in which a service and slow annotators would write them."""
    labels = deque[Feedback]()
    for number, item in enumerate(islice(cycle(items), size.labels)):
        answer = make_answer(number, item, items, receipts)
        publisher.send(answer)
        labels.append(make_label(answer, item.label))
        if len(labels) > size.behind:
            publisher.send(labels.popleft())
    for label in labels:
        publisher.send(label)
    publisher.flush(FLUSH_S)


def make_answer(
    number: int, item: StreamItem, items: list[StreamItem], receipts: Receipts, *, time_ms: int = 0
) -> Answer:
    """Makes an answer of realistic length, with five scores and a receipt. Without `time_ms` its number is its time."""
    event_id = f"backlog-{number:09d}"
    time_ms = time_ms or 1 + number
    verdicts = Verdicts(arm=STABLE, version=1, names=((1, name_hash(item.label)),))
    others = [items[(number + 97 * place) % len(items)].label for place in range(1, 5)]
    return Answer(
        event_id=event_id,
        text=item.text,
        label=item.label,
        score=0.912345678,
        scores=tuple((label, 0.123456789) for label in (item.label, *others)),
        weights_version=1,
        arm=STABLE,
        precision="int8",
        rollout_revision=1,
        source="backlog",
        event_time_ms=time_ms,
        time_ms=time_ms,
        receipt=receipts.of(event_id, time_ms=time_ms, entity=event_id, verdicts=verdicts),
    )


def make_label(answer: Answer, label: str) -> Feedback:
    return Feedback(
        event_id=answer.event_id,
        event_source=answer.source,
        receipt=answer.receipt,
        label=label,
        source="desk",
        time_ms=answer.time_ms + 1,
    )


def _watch(
    read_report: Callable[[], LearnerReport | None], learner: subprocess.Popen[bytes], num_labels: int
) -> CatchUp:
    """Polls the learner's reports until every label is matched with its answer, or the counters no longer change."""
    begun_s = changed_s = 0.0
    counts: dict[str, int] = {}
    while not _has_caught_up(counts, num_labels) and learner.poll() is None:
        # Nothing notifies us of a new report.
        time.sleep(POLL_INTERVAL_S)
        try:
            report = read_report()
        except StoreUnavailable:
            continue
        now_s = time.monotonic()
        if report is not None and report.counts != counts:
            counts = report.counts
            changed_s = now_s
        if not begun_s and counts.get("labels"):
            begun_s = now_s - POLL_INTERVAL_S
        if changed_s and now_s - changed_s > IDLE_S:
            break
    return CatchUp(counts, max(changed_s - begun_s, POLL_INTERVAL_S))


def _has_caught_up(counts: dict[str, int], num_labels: int) -> bool:
    """Returns whether all labels were read and none waits for its answer."""
    return counts.get("labels", 0) >= num_labels and not counts.get("parked", 0)


POLL_MS = 100
LATE_FLUSH_S = 600.0
DAYS = {"day": 1, "week": 7}
DAY_S = 86_400
GOALS_S = {12: 600, 200: 7_200}
"""Answers a second -> the goal for the time, in seconds, in which the answers of a week are searched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LateSize:
    """The size of the measurement."""

    answers: int = 500_000
    labels: int = 26_551
    """The number of labels. Their answers are spread evenly over all answers."""


LABELS_TO_FEW = 25
"""All labels, as a multiple of the few labels with which the time of an answer is measured."""


@dataclass(frozen=True, slots=True)
class Search:
    """The counters of late labels at the end, and the seconds from the first label to the last answer."""

    counts: dict[str, int]
    took_s: float


def measure_late_labels(run: Run) -> Iterator[Row]:
    size = run.sized(LateSize(), quick=LateSize(answers=5_000, labels=500))
    search = find_late_labels(size)
    few = find_late_labels(replace(size, labels=size.labels // LABELS_TO_FEW))
    pace = size.answers / few.took_s
    labels_s = max(0.0, search.took_s - few.took_s)
    percent_found = 100.0 * search.counts.get("late_found", 0) / size.labels
    yield Row.of("late_labels.labels", size.labels, "labels")
    yield Row.of("late_labels.answers", size.answers, "answers")
    yield Row.of("late_labels.pace", round(pace), "answers/s")
    yield Row.of("late_labels.sent_again", round(size.labels / search.took_s), "labels/s, with the pass")
    yield Row.of("late_labels.found", round(percent_found, 3), "% of the labels", goal=">= 100")
    for (span, days), (rate, week_goal_s) in product(DAYS.items(), GOALS_S.items()):
        goal_s = round(week_goal_s * days / DAYS["week"])
        took_s = days * DAY_S * rate / pace + labels_s
        yield Row.of(f"late_labels.{span}_at_{rate}_per_s", round(took_s), "s", goal=f"<= {goal_s}")


def find_late_labels(size: LateSize) -> Search:
    """Finds the answers of labels that were all sent at once. Raises Skip without Apache Kafka or without data."""
    items = clinc150().train_items
    with own_servers() as settings, closing(Bus(settings.bus, "late-labels")) as bus:
        bus.create_topics()
        receipts = Receipts(*key_ring(settings).receipts)
        publisher = bus.publisher()
        labels: list[Feedback] = []
        for number, item in enumerate(islice(cycle(items), size.answers)):
            answer = make_answer(number, item, items, receipts, time_ms=now_ms())
            publisher.send(answer)
            if number * size.labels // size.answers == len(labels):
                labels.append(make_label(answer, item.label))
        publisher.flush(LATE_FLUSH_S)
        publisher.send_all(labels, LATE_FLUSH_S)
        return _search(bus, receipts, len(labels))


def _search(bus: Bus, receipts: Receipts, num_labels: int) -> Search:
    """Reads the labels as the learner does, until no label is searched for any more."""
    late = LateLabels()
    trust = LabelTrust(LearnerConfig(), receipts=receipts)
    finder = AnswerFinder(bus, late, trust, is_erased=lambda subject: False)
    num_read = 0
    begun_s = time.monotonic()
    try:
        with closing(bus.follow([Feedback], {}, is_patient=True)) as follower:
            while num_read < num_labels or late.counts["late_searched"] or late.counts["late_waiting"]:
                followed = follower.poll(POLL_MS)
                for received in followed.received:
                    num_read += not received.record.proof
                    late.add(received.record)
                late.settle(followed.received)
                finder.check()
    finally:
        finder.close()
    return Search(late.counts, time.monotonic() - begun_s)
