"""One replica: assembles everything that answers events in one process, without Ray.

    Kafka -> Intake --------.                                .--> Outbox -> Kafka
                             >-- BatchQueue -> Engine -------<
    HTTP -> RequestBridge --'                    ^ live      '--> HTTP
                                                ServedTask, for each task <- Store

A replica starts at once, even if Kafka or Redis is unreachable: its parts retry until the servers answer. It is not
ready before it has weights. It stops its parts in the order in which events pass through them (intake, queue, outbox,
swaps), so that accepted events are answered, acknowledged and committed.
"""

import time
import uuid
from functools import partial
from pathlib import Path

import msgspec
import torch

from model.encoders import open_inputs
from serving.endpoints import Gateway
from serving.errors import Unhealthy
from serving.http.access import Access, KeyFile
from serving.http.api import Api
from serving.http.bridge import RequestBridge
from serving.http.origin import is_loopback
from serving.http.requests import Bodies
from serving.kafka.dedupe import DedupeWindow
from serving.kafka.intake import Intake, delivery_factory
from serving.models import ActiveVersions, PrecisionChoice
from serving.pipeline import assemble_pipeline
from serving.replica_config import ReplicaConfig
from serving.served_task import ReplicaStatus, ServedTask, SharedParts
from serving.weights.in_use import WeightsInUse
from serving.weights.swap import Swap
from wire.bus import Bus
from wire.rate_limits import TokenBuckets
from wire.receipts import Receipts
from wire.records import Event, Promise, ReplicaReport
from wire.tasks import DEFAULT, TaskNames
from wire.timestamps import now_ms


def new_id() -> str:
    return uuid.uuid4().hex


class Replica:
    """Owns the threads of one replica. `name` must be unique among all replicas."""

    def __init__(self, config: ReplicaConfig, name: str) -> None:
        serving = config.serving
        torch.set_num_threads(serving.threads)
        tokenizer = open_inputs(config.encoder, max_tokens=serving.max_tokens)
        self.name = name
        self._config = serving
        self._known = TaskNames(tuple(config.tasks))
        self._bus = Bus(config.bus, client_id=name, tasks=self._known)
        self._receipts = Receipts.following(config.ring)
        self._pipeline = assemble_pipeline(
            serving,
            tokenizer,
            self._bus,
            self._receipts,
            name,
            self._is_ready,
            labels=lambda: self._tasks[DEFAULT].labels,
            trust=config.trust,
        )
        self._engine = self._pipeline.engine
        self._outbox = self._pipeline.outbox
        self._window = DedupeWindow(serving.dedupe_window)
        self._intake = Intake(
            lambda: self._bus.subscribe(Event, serving.group, commits_itself=not serving.exactly_once),
            delivery_factory(
                self._outbox, self._window, transactions=self._bus.transactions if serving.exactly_once else None
            ),
            self._pipeline,
            self._window,
            max_open=serving.max_open_events,
            backoff=serving.reconnect_backoff,
            drain_timeout_s=serving.drain_timeout_s,
        )
        parts = SharedParts(name, self._engine, tokenizer, WeightsInUse(), self._pipeline.counts, self._pipeline.deaths)
        self._tasks = {
            task: ServedTask(task, config, parts, partial(self._complete_report, task)) for task in config.all_tasks
        }

    @property
    def gateway(self) -> Gateway:
        """The interface to which endpoints submit events."""
        return self._pipeline

    def api(self, *, listens: bool = True) -> Api:
        """Returns the HTTP and gRPC interface of this replica, for `make_app`. Each call makes new rate limits.

        If `listens`, this process listens on `http_host`; else Ray's proxy listens, on its own address. Raises BadKeys
        if the file of API keys cannot be read.
        """
        config = self._config
        limit = TokenBuckets(
            rate=config.rate_limit_per_s, burst=config.rate_limit_burst, max_keys=config.rate_limit_clients
        )
        return Api(
            bridge=RequestBridge(pipeline=self._pipeline, timeout_s=config.request_timeout_s, tasks=self._known),
            bodies=Bodies(max_bytes=config.max_request_bytes),
            access=Access(
                keys=KeyFile(Path(config.keys_file)) if config.keys_file else None,
                limit=limit if config.rate_limit_per_s else None,
                hosts="loopback" if listens and is_loopback(config.http_host) else "addresses",
            ),
            receipts=self._receipts,
            labels=lambda task: self._tasks[task].labels,
            max_events=config.max_events_per_request,
            check=self.check,
            status=self.status,
            now_ms=now_ms,
            new_id=new_id,
        )

    def start(self) -> None:
        """Starts every thread. The swaps come first, so that weights are loaded early."""
        for swap in self._swaps:
            swap.start()
        self._engine.start()
        self._outbox.start()
        for enricher in self._pipeline.enrichers:
            enricher.start()
        self._intake.start()

    def await_weights(self, timeout_s: float) -> None:
        """Waits at most `timeout_s` seconds until each task has weights, or it is known that none of its versions can
        be loaded."""
        end_s = time.monotonic() + timeout_s
        for swap in self._swaps:
            swap.await_first(max(0.0, end_s - time.monotonic()))

    def has_weights(self) -> bool:
        """Whether the default task has weights."""
        return self._engine.live is not None

    def check(self) -> None:
        """Raises Unhealthy if a thread has ended, or the model hangs."""
        self._engine.check(batch_timeout_s=self._config.batch_timeout_s)
        for swap in self._swaps:
            swap.check()
        self._outbox.check()
        for enricher in self._pipeline.enrichers:
            enricher.check(Unhealthy)
        self._intake.check()

    def close(self) -> None:
        """Answers the accepted events, commits their offsets, and ends every thread.

        Each part closes the Kafka clients that it opened.
        """
        # The queue closes after the intake has drained; the engine then ends when the queue is empty.
        self._intake.close()
        self._pipeline.queue.close()
        self._engine.join(self._config.drain_timeout_s)
        self._outbox.close(self._config.drain_timeout_s)
        for enricher in self._pipeline.enrichers:
            enricher.close()
        for task in self._tasks.values():
            task.close()
        self._pipeline.deaths.close()

    def status(self) -> ReplicaStatus:
        """Returns the replica's versions, state and counters."""
        stalls = self._engine.swap_stalls
        default, *others = [task.status() for task in self._tasks.values()]
        return ReplicaStatus(
            **msgspec.structs.asdict(default),
            replica=self.name,
            queue=self._pipeline.queue.state.value,
            queue_items=len(self._pipeline.queue),
            open_events=self._window.num_open,
            swaps=stalls.num,
            swap_stalls_ms=stalls.stalls_ms,
            swap_pauses_ms=stalls.pauses_ms,
            counts=self._pipeline.counts.snapshot(),
            tasks=dict(zip(self._known.names, others, strict=True)),
        )

    def load(self) -> dict[str, float]:
        """Returns `lag`, the events that wait in Kafka, and `busy`, the share of time in which the model computes."""
        return {"lag": float(self._intake.lag), "busy": self._engine.level.busy_share()}

    @property
    def _swaps(self) -> list[Swap]:
        return [task.swap for task in self._tasks.values()]

    def _is_ready(self) -> bool:
        """Whether the replica can answer events.

        The default task must have weights. Each other task must have weights, or have no version that can be loaded, so
        that such a task does not keep the others from answering.
        """
        return self._engine.live is not None and all(swap.await_first(0.0) for swap in self._swaps)

    def _complete_report(self, task: str, report: ReplicaReport) -> ReplicaReport:
        """Adds the values that concern the whole replica to the default task's report; returns other reports unchanged.

        The threads of the swaps call it.
        """
        if task != DEFAULT:
            return report
        stalls = self._engine.swap_stalls
        latency_counts, latency_sum_ms = self._engine.level.latencies()
        return msgspec.structs.replace(
            report,
            swaps=stalls.num,
            swap_stalls_ms=stalls.stalls_ms,
            swap_pauses_ms=stalls.pauses_ms,
            queue_items=len(self._pipeline.queue),
            promises=self._promises(report),
            latency_counts=latency_counts,
            latency_sum_ms=latency_sum_ms,
        )

    def _promises(self, report: ReplicaReport) -> tuple[Promise, ...]:
        stable = str(report.versions[0]) if report.versions else ""
        return self._engine.level.promises(
            self._config.promises,
            accuracy=_measured_accuracy(self._engine.live, self._engine.choice),
            model_bytes=report.model_bytes.get(stable, 0),
        )


def _measured_accuracy(live: ActiveVersions | None, choice: PrecisionChoice) -> float:
    """Returns the accuracy of the default task's stable version in the precision that answers; 0 if not measured."""
    if live is None:
        return 0.0
    stable = live.versions[live.plan.arms[0].version]
    precision = choice.by_version.get((DEFAULT, stable.number), stable.precisions[0].name)
    return next(evaluation.accuracy for evaluation in stable.precisions if evaluation.name == precision)
