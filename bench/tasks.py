"""Measures the cost of tasks: throughput of a service with three tasks, in turns with a service that has one.

Each task learns the classes of CLINC150 from a few labels each. In the first row all tasks share the encoder. In the
second row slow rounds have trained two upper blocks for each task, on shared lower blocks. Every event is answered by
all tasks. The goal is a cost of 1 + 0.4 (T - 1) for T tasks: 1.8 for three.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from bench.harness.case import Run
from bench.harness.process import poll_until
from bench.harness.service import LABELS_PER_CLASS, Service, is_learner_idle
from bench.harness.texts import clinc150, first_items_per_class
from bench.over_kafka import measure_full_speed
from bench.setting_costs import Rounds, alternate, row, service_pair
from evals.results.row import NoResult, Row
from evals.streams.stream import StreamItem
from model.config import MINILM_L6
from model.plan import layer_index
from rollout.operator import Operator
from services.programs import open_stores
from wire.records import Feedback
from wire.store import Store
from wire.timestamps import now_ms

TASKS = ("urgency", "product")
"""The tasks besides the default one."""

NUM_TASKS = 1 + len(TASKS)
MAX_COST = 1 + 0.4 * (NUM_TASKS - 1)
ONE_TASK = "the same service with one task"
KNOWN_SHARE = 0.95
"""The fraction of the classes that a task must know. It is below 1 because both samples of a class may be in the
holdout."""

OWN_BLOCKS = 2
TRAINED: Final = {
    "learner.trainable_layers": OWN_BLOCKS,
    "learner.slow_every_labels": 200,  # fewer labels than each task gets, so that it trains on them
    "learner.trial_labels": 0,  # no labels follow on which the next encoder could be tried
    "learner.learn_unlabelled": False,  # otherwise the next round would train on the events of this benchmark
}
"""The settings under which each task trains blocks of its own."""

LEARNT_WITHIN_S = 120.0
TRAINED_WITHIN_S = 300.0
SEND_S = 30.0


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(Rounds(5), quick=Rounds(1))
    yield against_one_task("tasks.throughput", {}, size.rounds)
    yield against_one_task("tasks.trained", TRAINED, size.rounds)


def against_one_task(name: str, settings: Mapping[str, object], rounds: int) -> Row:
    """Returns the row that compares a service with several tasks, under these settings, with a service with one."""
    with service_pair({**{f"tasks.{task}": {} for task in TASKS}, **settings}) as (plain, several):
        teach(several)
        if settings:
            await_own_blocks(several)
        one, three = alternate(partial(measure_full_speed, plain), partial(measure_full_speed, several), rounds)
    cost = sum(one) / sum(three)
    note = f"{NUM_TASKS} tasks cost {cost:.2f} times what one costs, {cost / NUM_TASKS:.2f} for each answer"
    return row(name, one, three, goal=1 / MAX_COST, baseline=ONE_TASK, note=note)


def teach(service: Service) -> None:
    """Teaches each further task the labels that the service was primed with.

    Raises NoResult if a task does not learn its classes within LEARNT_WITHIN_S.
    """
    items = first_items_per_class(clinc150(), LABELS_PER_CLASS).train
    publisher = service.bus.publisher()
    for task in TASKS:
        publisher.send_all((make_label(item, task, number) for number, item in enumerate(items)), SEND_S)
    classes = {item.label for item in items}
    with ExitStack() as opened:
        stores = open_stores(service.settings, opened)
        for task in TASKS:
            await_classes(stores[task], task, int(KNOWN_SHARE * len(classes)))


def make_label(item: StreamItem, task: str, number: int) -> Feedback:
    """Returns the label of an item, with its text, for a task."""
    return Feedback(event_id=f"{task}-{number}", label=item.label, text=item.text, task=task, time_ms=now_ms())


def await_classes(store: Store, task: str, num: int, *, within_s: float = LEARNT_WITHIN_S) -> None:
    """Waits until all replicas answer with a version of the task that knows at least `num` classes.

    Raises NoResult if that takes longer than `within_s` seconds.
    """

    def knows() -> bool:
        plan = store.plans.read()
        served = [report.revision for report in store.reports.replicas()]
        if plan is None or not served or min(served) < plan.revision:
            return False
        return len(store.versions.manifest(plan.stable).labels) >= num

    poll_until(knows, f"task {task} did not learn {num} classes", within_s=within_s)


def await_own_blocks(service: Service, *, within_s: float = TRAINED_WITHIN_S) -> None:
    """Waits until the slow rounds of all tasks are over, and promotes their encoders.

    Raises NoResult if the rounds take longer than `within_s` seconds, or if `check_own_blocks` fails.
    """
    with ExitStack() as opened:
        stores = open_stores(service.settings, opened)
        are_over = partial(all_idle, stores.values())
        poll_until(are_over, "the slow rounds were not over", within_s=within_s)
        encoders: list[Mapping[str, str]] = []
        for task, store in stores.items():
            manifest = store.versions.manifest(store.versions.current())
            Operator(store, name="bench", config=service.settings.rollout).promote(manifest.version, now_ms=now_ms())
            await_classes(store, task, 1)
            encoders.append(manifest.encoder_digests)
    check_own_blocks(encoders)


def all_idle(stores: Collection[Store]) -> bool:
    return all(map(is_learner_idle, stores))


def check_own_blocks(encoders: Sequence[Mapping[str, str]]) -> None:
    """Raises NoResult unless all encoders have different upper blocks and the same lower blocks."""
    depth = MINILM_L6.n_layers - OWN_BLOCKS
    upper: set[frozenset[tuple[str, str]]] = set()
    lower: set[frozenset[tuple[str, str]]] = set()
    for digests in encoders:
        own = frozenset(entry for entry in digests.items() if layer_index(entry[0]) >= depth)
        upper.add(own)
        lower.add(frozenset(digests.items()) - own)
    if (len(upper), len(lower)) != (len(encoders), 1):
        raise NoResult(f"{len(encoders)} tasks have {len(upper)} upper parts on {len(lower)} lower ones")
