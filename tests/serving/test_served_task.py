"""One task of a replica: it follows the plan of its own store, and reports there."""

from contextlib import closing

from serving.config import ServingConfig
from serving.engine import Engine
from serving.observers import Counts, task_counter
from serving.pipeline import NOTHING_NOTED
from serving.queue import BatchQueue, Item
from serving.replica_config import ReplicaConfig, TaskConfig
from serving.served_task import ServedTask, SharedParts
from serving.weights.in_use import WeightsInUse
from tests.serving.versions import TinyPublisher, tokenizer
from tests.stores import KEYS
from tests.waiting import eventually
from wire.config import BusConfig, LabelConfig, StoreConfig
from wire.records import LabelCommand
from wire.store import Store


def test_a_task_follows_its_own_plan_and_labels_and_reports_to_its_own_store(
    store_config: StoreConfig, store: Store, engine: Engine, queue: BatchQueue[Item], counts: Counts
) -> None:
    serving = ServingConfig(report_interval_s=0.05)
    config = ReplicaConfig(
        encoder="minilm-l6",
        serving=serving,
        bus=BusConfig(),
        store=store_config,
        ring=KEYS,
        tasks={"urgency": TaskConfig(labels=LabelConfig(mode="listed", allow=("high",)))},
    )
    parts = SharedParts("r1", engine, tokenizer(), WeightsInUse(), counts, NOTHING_NOTED)
    task = ServedTask("urgency", config, parts, complete=lambda report: report)
    counts.add(task_counter("urgency", "answers_int8"), 3)
    counts.add("answers_int8", 5)
    of_default = TinyPublisher(store)
    of_default.publish(1)
    of_default.plan(1)
    with closing(Store(store_config, KEYS, task="urgency")) as own:
        learner = TinyPublisher(own)
        for number in (1, 2):
            learner.publish(number)
        learner.plan(2)
        own.commands.append(LabelCommand(number=1, action="add", labels=("low",)))
        task.swap.start()
        eventually(lambda: any(report.versions == (2,) for report in own.reports.replicas()))
        (report,) = own.reports.replicas()
        assert (report.replica, report.counts) == ("r1", {"answers_int8": 3})
        eventually(lambda: task.labels.listed == {"high", "low"})
        assert task.status().arms[0].version == 2
        assert engine.live is None and not store.reports.replicas()
    task.close()
    queue.close()
