"""The programs of a world, each as the product runs it: the learner, two replicas, the rollout controller.

    learner      `learner.process.run`, whole
    controller   `rollout.controller.Controller.run` with `rollout.judge.Judge`, whole
    replica      Subscription --> predict_many --> Publisher --> finish;  Swap and Loader beside it

A replica's queue, its HTTP and its engine's thread are left out: events are answered in the thread that reads them, by
the function that the engine calls.
"""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Final

from kafka import TopicPartition  # type: ignore[import-untyped]

from learner import process
from learner.config import LearnerConfig
from learner.process import EncoderChoice, TaskChoice
from model.encoders import open_encoder, open_inputs
from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.decider import Decider
from rollout.judge import Judge
from rollout.publication_rule import verdict
from serving.config import PrecisionConfig
from serving.kafka.dedupe import Admission, DedupeWindow
from serving.models import ActiveVersions
from serving.predict import predict_many
from serving.weights.loader import Loader
from serving.weights.swap import Swap
from tests.simulation.install import wall_ms
from tests.simulation.ledger import Ledger
from tests.simulation.threads import SimEvent
from wire.bus import Bus, Received
from wire.config import BusConfig, LabelConfig, StoreConfig, TrustConfig
from wire.errors import WireError
from wire.events import key_of
from wire.keyring import parse
from wire.receipts import Receipts
from wire.records import Answer, Event, ReplicaReport
from wire.store import Store
from wire.tasks import TaskNames

ENCODER: Final = "tests.simulation.encoder:Digits"
RING: Final = parse("a key for the simulation")
BUS: Final = BusConfig(bootstrap_servers="simulated:9092", partitions=2, client={"request_timeout_ms": 2_000})
STORE: Final = StoreConfig(url="redis://simulated", timeout_ms=500, poll_interval_ms=500)
TRUST: Final = TrustConfig(source_share=1.0, flip_alarm=False, source_labels_per_s=1e6, source_burst=1_000_000)
FORGETS_ANSWERS: Final = {"pending_bytes": 40 * 500, "parked_bytes": 40 * 500}
"""Settings of a learner whose windows hold some forty answers and labels: later labels are late."""

FORGETS_EVENTS: Final = {"remembered_ids": 60}
"""Settings of a learner that remembers only so many events: an old label that is read again would be learnt again."""

LEARNER: Final = LearnerConfig(
    num_features=16,
    label_capacity=8,
    trainable_layers=0,
    learn_unlabelled=False,
    replay_samples=100_000,
    holdout_share=0.1,
    min_holdout=2_000,
    learn_names=False,
    drift_delta=0.0,
    recent_labels=0,
    parity_texts=4,
    probes=1,
    poll_timeout_ms=250,
    publish_interval_s=1.0,
    max_head_update=1e6,
    checkpoint_interval_s=2.0,
    checkpoints=2,
    lease_ttl_ms=1_500,
    retry_backoff_ms=200,
    trust=TRUST,
)
ROLLOUT: Final = RolloutConfig(
    ramp=(0.1, 0.3), ramp_answers=5, lease_ms=1_500, collect_interval_s=5.0, keep_versions=4, max_unlabelled=60
)
POLL_MS: Final = 250
RECEIPTS: Final = Receipts.following(RING)


def run_learner(settings: Mapping[str, Any], stop: SimEvent) -> int:
    """Runs the learner until it is stopped; returns its exit code."""
    config = replace(LEARNER, **settings)
    task = TaskChoice(LabelConfig(), TaskNames())
    return process.run(
        config,
        bus_config=BUS,
        store_config=STORE,
        ring=RING,
        encoder=EncoderChoice(ENCODER, None),
        task=task,
        stop=stop,  # type: ignore[arg-type]
        rule=verdict,
    )


def run_controller(on_decider: Callable[[Decider], None], stop: SimEvent) -> None:
    """Runs a rollout controller until it is stopped. `on_decider` is told of the one that each judge has."""
    store = Store(STORE, RING)
    bus = Bus(BUS, client_id="rollout", tasks=TaskNames())
    refusal = partial(RECEIPTS.refusal, is_required=False, max_age_ms=1e12)

    def open_judge() -> Judge:
        decider = Decider(store, config=ROLLOUT, trust=TRUST, refusal=refusal, now_ms=wall_ms)
        on_decider(decider)
        return Judge(bus, decider)

    holder = f"controller {wall_ms()}"
    Controller(store, open_judge, config=ROLLOUT, holder=holder, now_ms=wall_ms).run(stop)  # type: ignore[arg-type]


class SimEngine:
    """The engine as the swap sees it: what is live, and no batch to wait for."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._name = name
        self._ledger = ledger
        self.live: ActiveVersions | None = None

    def live_versions(self, task: str) -> ActiveVersions | None:
        return self.live

    def activate(self, versions: ActiveVersions, task: str) -> int:
        self.live = versions
        plan = versions.plan
        self._ledger.follows(self._name, plan.salt, plan.revision, plan.time_ms)
        return versions.number

    def await_batch(self, number: int) -> bool:
        return True

    def await_next_batch(self) -> bool:
        return True


class SimReplica:
    """Answers events while it has weights. One task reads, answers and sends; the swap's own follows the plan."""

    def __init__(self, name: str, ledger: Ledger, on_answer: Callable[[Answer], None]) -> None:
        self._name = name
        self._ledger = ledger
        self._on_answer = on_answer
        self._inputs = open_inputs(ENCODER)
        self.engine = SimEngine(name, ledger)
        self._store = Store(STORE, RING.for_replicas())
        self._bus = Bus(BUS, client_id=name, tasks=TaskNames())
        self._window = DedupeWindow(1_000)
        self._unsent: deque[tuple[Event, Answer]] = deque()
        self.swap = Swap(
            self._store,
            Loader(self._store, self._inputs, precision=PrecisionConfig(), probe_tolerance=0.02),
            self.engine,  # type: ignore[arg-type]
            refusal_retry_s=5.0,
            report_interval_s=1.0,
            report=self._report,
        )

    def run(self, stop: SimEvent) -> None:
        """Serves until it is stopped."""
        self._ledger.restarts(self._name)
        self.swap.start()
        while not stop.is_set():
            try:
                subscribed = self._bus.subscribe(Event, "serving")
                with closing(subscribed) as subscription, closing(self._bus.publisher()) as publisher:
                    self._serve(subscription, publisher, stop)
            except WireError:
                stop.wait(0.2)

    def _serve(self, subscription: Any, publisher: Any, stop: SimEvent) -> None:
        while not stop.is_set():
            if self.engine.live is None:
                subscription.pause()
            else:
                subscription.resume()
            poll = subscription.poll(POLL_MS)
            new = [received for received in poll.received if self._is_new(received, subscription)]
            if new:
                assert self.engine.live is not None
                self._answer(new, self.engine.live)
            self._send(publisher)

    def _is_new(self, received: Received[Event], subscription: Any) -> bool:
        position = received.position
        self._ledger.is_delivered(TopicPartition(position.topic, position.partition), position.offset)
        finish = partial(subscription.finish, position)
        admission = self._window.admit(received.record, finish)
        if admission is Admission.ANSWERED:
            finish()
        return admission is Admission.NEW

    def _answer(self, new: list[Received[Event]], live: ActiveVersions) -> None:
        events = [received.record for received in new]
        tokens = self._inputs.encode_many([event.text for event in events])
        precisions: Mapping[int, str] = {number: each.precisions[0].name for number, each in live.versions.items()}
        answers = predict_many(events, tokens, live, precisions, top_scores=1, receipts=RECEIPTS, now_ms=wall_ms)
        self._unsent.extend(zip(events, answers, strict=True))

    def _send(self, publisher: Any) -> None:
        """Sends what is not sent yet; what fails is sent again."""
        for _ in range(len(self._unsent)):
            event, answer = self._unsent.popleft()
            try:
                publisher.send(answer, partial(self._acknowledge, event, answer))
            except WireError:
                self._unsent.append((event, answer))
                return

    def _acknowledge(self, event: Event, answer: Answer, error: Exception | None) -> None:
        if error is not None:
            self._unsent.append((event, answer))
            return
        self._on_answer(answer)
        self._window.acknowledge(key_of(event))

    def _report(self) -> ReplicaReport:
        live = self.engine.live
        versions = tuple(dict.fromkeys(arm.version for arm in live.plan.arms)) if live else ()
        return ReplicaReport(
            replica=self._name,
            revision=live.plan.revision if live else 0,
            versions=versions,
            time_ms=wall_ms(),
            refused=self.swap.refused,
            damaged=self.swap.damaged,
            health=self.swap.health,
        )


def warm_up() -> None:
    """Loads what the first simulation would load amid it."""
    open_encoder(ENCODER)
