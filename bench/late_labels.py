"""Measures how fast the answers of a week's late labels are found, all sent at once.

    answers, and labels that come long after them --> Apache Kafka --> the learner's AnswerFinder --> labels with texts

A pass over the answers takes as long as there are answers, however many labels are looked for. So the pace is measured
with fewer answers than a week has, and the rows of a week are the answers of a week over that pace: no gap is skipped
here, which a week with a high rate has. The time includes the reading of the labels, and sending them again.

Rejected: answers of a real week (the broker gives them the times of their writing), and one row for both rates.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, cycle, islice

from bench.backlog import answer_of, label_of, own_servers
from bench.fixtures import Fixtures
from bench.texts import clinc150
from evals.results.row import Goal, Row
from learner.config import LearnerConfig
from learner.intake.answer_finder import AnswerFinder
from learner.intake.late_labels import LateLabels
from learner.intake.trust import LabelTrust
from services.keys import ring_of
from wire.bus import Bus
from wire.receipts import Receipts
from wire.records import Feedback
from wire.timestamps import now_ms

POLL_MS = 100
FLUSH_S = 600.0
WEEK_S = 604_800
GOALS_S = {12: 600, 200: 7_200}
"""By answers a second: in how many seconds those of a week are found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LateSize:
    """The size of the measurement."""

    answers: int = 500_000
    labels: int = 26_551
    """Labels of answers that are spread evenly over all of them."""


@dataclass(frozen=True, slots=True)
class Search:
    """The counts of the late labels at the end, and the seconds from the first label to the last answer."""

    counts: dict[str, int]
    took_s: float


def measure(fixtures: Fixtures) -> Iterator[Row]:
    fixtures.stop_service()
    size = fixtures.sized(LateSize())
    search = find(size)
    pace = size.answers / search.took_s
    found = 100.0 * search.counts.get("late_found", 0) / size.labels
    yield Row.of(name="late_labels.labels", value=size.labels, unit="labels")
    yield Row.of(name="late_labels.answers", value=size.answers, unit="answers")
    yield Row.of(name="late_labels.pace", value=round(pace), unit="answers/s")
    yield Row.of(name="late_labels.found", value=round(found, 3), unit="% of the labels", goal=Goal(">=", 100))
    for rate, goal_s in GOALS_S.items():
        week_s = round(WEEK_S * rate / pace)
        yield Row.of(name=f"late_labels.week_at_{rate}_per_s", value=week_s, unit="s", goal=Goal("<=", goal_s))


def find(size: LateSize) -> Search:
    """Finds the answers of labels that were all sent at once. Raises Skip without Apache Kafka, or data."""
    items = list(chain.from_iterable(stage.train for stage in clinc150().stages))
    with own_servers() as settings, closing(Bus(settings.bus, "late-labels")) as bus:
        bus.create_topics()
        receipts = Receipts(*ring_of(settings).receipts)
        publisher = bus.publisher()
        labels: list[Feedback] = []
        for number, item in enumerate(islice(cycle(items), size.answers)):
            answer = answer_of(number, item, items, receipts, time_ms=now_ms())
            publisher.send(answer)
            if number * size.labels // size.answers == len(labels):
                labels.append(label_of(answer, item.label))
        publisher.flush(FLUSH_S)
        publisher.send_all(labels, FLUSH_S)
        return _searched(bus, receipts, len(labels))


def _searched(bus: Bus, receipts: Receipts, num_labels: int) -> Search:
    """Reads the labels as the learner does, and waits until none is looked for any more."""
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
