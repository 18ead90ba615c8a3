"""Measures what tasks cost: events a second of a service with three tasks, in turns with a service that has one.

Each task has learnt the classes of CLINC150 from a few labels each, on the encoder that all share. Every event is
answered by all tasks. The goal is a cost of 1 + 0.4 (T - 1) for T tasks: 1.8 for three.

Rejected: three services of one task (each would read and encode every event, which is what tasks spare).
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench.fixtures import Fixtures
from bench.kafka_throughput import full_speed
from bench.service import LABELS_OF_EACH, Service
from bench.texts import clinc150, few_of_each
from bench.turns import by_turns, pair, row
from evals.results.row import NoResult, Row
from evals.streams.stream import StreamItem
from services.programs import open_stores
from wire.clock import now_ms
from wire.records import Feedback
from wire.store import Store

TASKS = ("urgency", "product")
"""The tasks besides the default one."""

NUM_TASKS = 1 + len(TASKS)
MAX_COST = 1 + 0.4 * (NUM_TASKS - 1)
BESIDE = "the same service with one task"
LEARNT_SHARE = 0.95
"""The share of the classes that a task must know: both samples of some are in the holdout."""

LEARNT_WITHIN_S = 120.0
POLL_S = 0.5
SEND_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TasksSize:
    """The size of the benchmark."""

    rounds: int = 5
    """Rounds of either service."""


def measure(fixtures: Fixtures) -> Iterator[Row]:
    size = fixtures.sized(TasksSize())
    fixtures.stop_service()
    with pair({f"tasks.{task}": {} for task in TASKS}) as (plain, several):
        teach(several)
        one, three = by_turns(partial(full_speed, plain), partial(full_speed, several), size.rounds)
    cost = sum(one) / sum(three)
    note = f"{NUM_TASKS} tasks cost {cost:.2f} times what one costs, {cost / NUM_TASKS:.2f} for each answer"
    yield row("tasks.throughput", one, three, goal=1 / MAX_COST, beside=BESIDE, note=note)


def teach(service: Service) -> None:
    """Teaches each further task the labels that the service was primed with. Raises NoResult where it takes long."""
    items = few_of_each(clinc150(), LABELS_OF_EACH).train
    publisher = service.bus.publisher()
    for task in TASKS:
        publisher.send_all((label_of(item, task, number) for number, item in enumerate(items)), SEND_S)
    classes = {item.label for item in items}
    with ExitStack() as opened:
        stores = open_stores(service.settings, opened)
        for task in TASKS:
            await_classes(stores[task], task, int(LEARNT_SHARE * len(classes)))


def label_of(item: StreamItem, task: str, number: int) -> Feedback:
    """Returns the label of an item, with its text, for a task."""
    return Feedback(event_id=f"{task}-{number}", label=item.label, text=item.text, task=task, time_ms=now_ms())


def await_classes(store: Store, task: str, num: int, *, within_s: float = LEARNT_WITHIN_S) -> None:
    """Returns when the replicas answer by a version of the task that knows so many classes. Raises NoResult."""
    deadline_s = time.monotonic() + within_s
    while True:
        plan = store.plans.read()
        served = [report.revision for report in store.reports.replicas()]
        if plan and served and min(served) >= plan.revision and len(store.versions.manifest(plan.stable).labels) >= num:
            return
        if time.monotonic() > deadline_s:
            raise NoResult(f"task {task} did not learn {num} classes within {within_s:g} s")
        time.sleep(POLL_S)
