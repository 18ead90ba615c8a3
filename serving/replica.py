"""One replica, assembled: everything that answers, in one process, without Ray.

    Kafka -> Intake --------.                                .--> Outbox -> Kafka
                             >-- BatchQueue -> Engine -------<
    HTTP -> RequestBridge --'                    ^ live      '--> HTTP
                                                Swap <- Store

A replica starts at once and connects by itself: unreachable servers are asked again until they answer, and the replica
is not ready before its first weights. It stops in the order of the stream, so that accepted events are answered,
acknowledged and committed: intake, queue, outbox, swap.

Rejected: a process for Kafka and one for HTTP (each would hold the weights, and batch by itself), and a start that
fails without its servers (an outage of Kafka would end the answers by HTTP).
"""

import uuid
from pathlib import Path

import torch

from model.encoders import open_inputs
from serving.config import ReplicaConfig
from serving.http.access import Access
from serving.http.api import Api
from serving.http.bodies import Bodies
from serving.http.bridge import RequestBridge
from serving.http.keys import KeyFile
from serving.kafka.dedupe import DedupeWindow
from serving.kafka.delivery import deliveries
from serving.kafka.intake import Intake
from serving.kafka.series_labels import SeriesLabels
from serving.label_watch import LabelWatch
from serving.pipeline import assembled
from serving.refusal import Refusal
from serving.service_level import accuracy_of
from serving.status import ReplicaStatus
from serving.weights.loader import Loader
from serving.weights.swap import Swap
from wire.bus import Bus
from wire.clock import now_ms
from wire.receipts import Receipts
from wire.records import Event, Promise, ReplicaReport
from wire.store import Store
from wire.token_bucket import TokenBuckets


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
        self._profile = config.profile
        self._bus = Bus(config.bus, client_id=name)
        self._store = Store(config.store, config.ring)
        self._receipts = Receipts.following(config.ring)
        self._labels = LabelWatch(self._store, config.labels)
        self._pipeline = assembled(serving, tokenizer, self._bus, self._receipts, name)
        self._queue = self._pipeline.queue
        self._engine = self._pipeline.engine
        self._outbox = self._pipeline.outbox
        self._window = DedupeWindow(serving.dedupe_window)
        self._intake = Intake(
            lambda: self._bus.subscribe(Event, serving.group, commits_itself=not serving.exactly_once),
            deliveries(
                self._outbox, self._window, transactions=self._bus.transactions if serving.exactly_once else None
            ),
            self._pipeline,
            self._window,
            max_open=serving.max_open_events,
            backoff=serving.reconnect_backoff,
            drain_timeout_s=serving.drain_timeout_s,
        )
        self._series_labels = SeriesLabels(
            self._bus,
            self._pipeline.series,
            self._receipts,
            lambda: self._labels.labels,
            backoff=serving.reconnect_backoff,
        )
        self._swap = Swap(
            self._store,
            Loader(
                self._store,
                tokenizer,
                precision=serving.precision,
                probe_tolerance=serving.probe_tolerance,
                names_encodings=serving.answer_vectors,
                refusal=Refusal(serving.refusal),
            ),
            self._engine,
            refusal_retry_s=serving.refusal_retry_s,
            report_interval_s=serving.report_interval_s,
            report=self._report,
        )

    def api(self) -> Api:
        """Returns the endpoints of this replica, for `make_app`. Each call has rate limits of its own.

        Raises BadKeys where the file of API keys cannot be read.
        """
        config = self._config
        limit = TokenBuckets(
            rate=config.rate_limit_per_s, burst=config.rate_limit_burst, max_keys=config.rate_limit_clients
        )
        return Api(
            bridge=RequestBridge(pipeline=self._pipeline, timeout_s=config.request_timeout_s),
            bodies=Bodies(max_bytes=config.max_request_bytes),
            access=Access(
                keys=KeyFile(Path(config.keys_file)) if config.keys_file else None,
                limit=limit if config.rate_limit_per_s else None,
            ),
            receipts=self._receipts,
            labels=lambda: self._labels.labels,
            max_events=config.max_events_per_request,
            check=self.check,
            status=self.status,
            now_ms=now_ms,
            new_id=new_id,
        )

    def start(self) -> None:
        """Starts every thread; the swap's first, so that weights come first."""
        for part in (self._swap, self._engine, self._outbox, self._series_labels, self._intake):
            part.start()

    def await_weights(self, timeout_s: float) -> None:
        """Returns when the replica can answer, or has nothing to answer with, or after `timeout_s` seconds."""
        self._swap.await_first(timeout_s)

    def check(self) -> None:
        """Raises Unhealthy where a thread has ended, or the model hangs."""
        self._engine.check(batch_timeout_s=self._config.batch_timeout_s)
        for part in (self._swap, self._outbox, self._series_labels, self._intake):
            part.check()

    def close(self) -> None:
        """Answers the accepted events, commits, and ends every thread. Bus clients are closed by the parts that opened
        them."""
        self._intake.close()
        self._queue.close()
        self._engine.join(self._config.drain_timeout_s)
        self._outbox.close(self._config.drain_timeout_s)
        self._series_labels.close()
        self._swap.close()
        self._store.close()

    def status(self) -> ReplicaStatus:
        """Returns what the replica serves and has counted by now."""
        live = self._engine.live
        stalls = self._engine.swap_stalls
        versions = live.versions if live else {}
        return ReplicaStatus(
            replica=self.name,
            swap=self._swap.state.value,
            queue=self._queue.state.value,
            revision=live.plan.revision if live else 0,
            stand_in=live.stand_in if live else 0,
            arms=live.plan.arms if live else (),
            num_labels={str(number): len(version.model.labels) for number, version in versions.items()},
            refused_below={str(number): version.refusal.threshold for number, version in versions.items()},
            forwards={str(number): version.model.encoder.implementation for number, version in versions.items()},
            queue_items=len(self._queue),
            open_events=self._window.num_open,
            swaps=stalls.num,
            swap_stalls_ms=stalls.stalls_ms,
            swap_pauses_ms=stalls.pauses_ms,
            refused=self._swap.refused,
            counts=self._pipeline.counts.snapshot(),
        )

    def load(self) -> dict[str, float]:
        """Returns the events that wait in Kafka for this replica, and the share of time in which its model computes."""
        return {"lag": float(self._intake.lag), "busy": self._engine.level.busy_share()}

    def _report(self) -> ReplicaReport:
        """Is called by the swap's thread."""
        self._labels.follow()
        status = self.status()
        latency_counts, latency_sum_ms = self._engine.level.latencies()
        return ReplicaReport(
            replica=self.name,
            revision=status.revision,
            versions=tuple(dict.fromkeys(arm.version for arm in status.arms)),
            time_ms=now_ms(),
            swaps=status.swaps,
            swap_stalls_ms=status.swap_stalls_ms,
            swap_pauses_ms=status.swap_pauses_ms,
            refused=status.refused,
            counts=status.counts,
            queue_items=status.queue_items,
            model_bytes=self._swap.model_bytes,
            damaged=self._swap.damaged,
            stand_in=status.stand_in,
            health=self._swap.health,
            profile=self._profile,
            promises=self._promises(status),
            latency_counts=latency_counts,
            latency_sum_ms=latency_sum_ms,
            swapped_ms=live.since_ms if (live := self._engine.live) else 0,
        )

    def _promises(self, status: ReplicaStatus) -> tuple[Promise, ...]:
        engine = self._engine
        stable = str(status.arms[0].version) if status.arms else ""
        return engine.level.promises(
            self._config.level,
            accuracy=accuracy_of(engine.live, engine.choice),
            model_bytes=self._swap.model_bytes.get(stable, 0),
        )
