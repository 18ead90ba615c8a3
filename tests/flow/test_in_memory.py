"""Checks the whole data flow in one process: an event is answered by the version that has learnt its label.

    Event --> queue, engine --> Answer --+--> learner --> version --> store --> plan --> swap --> engine
                                Feedback-+--> judge --> the version is promoted

Every part is the one that runs in production, and the store is a real Redis. Kafka, HTTP and the loops that wait for
them have tests of their own: here a record is the message that would travel, written and read again. Receipts are
required, so a label counts only if its answer was given with the receipt that comes back.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import TypeVar

import pytest

from model.packed import Inputs
from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.decider import Decider
from rollout.judge import Judge
from serving.pipeline import Pipeline, make_encode
from serving.queue import Outcome
from serving.weights.in_use import WeightsInUse
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import Setting
from tests.learner.streams import label_of, make_text
from tests.serving.pipelines import make_pipeline
from tests.serving.versions import RECEIPTS, tokenizer
from tests.serving.weights.swaps import make_swap, served
from tests.waiting import eventually
from wire.config import LabelConfig, TrustConfig
from wire.envelope import from_message, to_message
from wire.message import Place
from wire.records import Answer, Event, Feedback, Quarantined, TopicRecord
from wire.store import Store

R = TypeVar("R", bound=TopicRecord)

NUM_EVENTS = 60
WAIT_S = 10.0
MIN_RIGHT = 0.9
"""The share of the events that a version must answer with the labels which it has learnt. A guess is right in 0.2."""


def carried(record: R) -> R:
    """Returns the record as the other side reads it, from the message that travels."""
    return from_message(type(record), to_message(record), Place(topic="t", partition=0, offset=0))


def no_judge() -> Judge:
    raise AssertionError("the test reads the topics")


class Service:
    """A learner, a rollout controller, its decider, and a replica whose engine and swap have their threads.

    That of another task is `beside` one, and shares its replica. `inputs` are those of the encoder of the `rig`, whose
    settings may be `changed`.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        labels: LabelConfig | None = None,
        task: str = "",
        beside: "Service | None" = None,
        rig: type[PublishRig] = PublishRig,
        inputs: Inputs | None = None,
        changed: Mapping[str, Setting] = MappingProxyType({}),
    ) -> None:
        config = RolloutConfig(ramp=(0.5,), newest_share=0.0)
        refusal = partial(RECEIPTS.refusal, is_required=True, max_age_ms=1e9)
        self.learner = rig(store, folder, RECEIPTS, trust=TrustConfig(require_receipts=True), **changed)
        self.controller = Controller(store, no_judge, config=config, holder="test", now_ms=lambda: 1)
        self.decider = Decider(
            store, config=config, trust=TrustConfig(), refusal=refusal, now_ms=lambda: 1, labels=labels
        )
        self.task = task
        self.weights: WeightsInUse = beside.weights if beside else WeightsInUse()
        self.pipeline: Pipeline = (
            beside.pipeline if beside else make_pipeline(make_encode(inputs or tokenizer(), max_tokens=lambda: 64))
        )
        self.swap = make_swap(store, self.pipeline.engine, task=task, weights=self.weights, inputs=inputs)
        self._store = store

    def start(self) -> None:
        if not self.task:
            self.pipeline.engine.start()
        self.swap.start()

    def close(self) -> None:
        self.pipeline.queue.close()
        self.pipeline.engine.join(WAIT_S)
        self.swap.close()

    def publish(self, objection: str = "") -> int:
        """Publishes what was learnt, and lets the controller put it into the plan; returns its number.

        With an `objection` the version does not become stable at once: labels decide.
        """
        version = self.learner.publish()
        self.controller.follow_current(objection)
        self.await_swap()
        return version

    def await_swap(self) -> None:
        """Waits until the replica serves the versions of the plan."""
        plan = self._store.plans.read()
        assert plan is not None
        engine = self.pipeline.engine
        expected = (plan.revision, *plan.versions)
        eventually(
            lambda: engine.live_versions(self.task) is not None and served(engine, self.task) == expected,
            within_s=WAIT_S,
        )

    def answer(self, events: Sequence[Event]) -> list[Answer]:
        """Returns the answers of the replica, in the order of the events."""
        outcomes = SimpleQueue[Outcome]()
        items = self.pipeline.items([carried(event) for event in events], [outcomes.put] * len(events))
        assert self.pipeline.queue.submit_many(items) == len(items)
        answers: dict[str, Answer] = {}
        for _ in items:
            outcome = outcomes.get(timeout=WAIT_S)
            assert isinstance(outcome, Answer)
            answers[outcome.event_id] = carried(outcome)
        return [answers[event.id] for event in events]

    def label(self, answers: Sequence[Answer], labels: Sequence[str]) -> None:
        """Lets learner and decider read the answers, and what people say that the labels are."""
        feedback = [
            Feedback(event_id=answer.event_id, label=label, key=answer.key, receipt=answer.receipt, task=answer.task)
            for answer, label in zip(answers, labels, strict=True)
        ]
        self.read(answers, feedback)

    def read(self, answers: Sequence[Answer], feedback: Sequence[Feedback]) -> list[Quarantined]:
        """Lets learner and decider read these; returns the labels that the learner does not believe."""
        records: list[Answer | Feedback] = [*answers, *map(carried, feedback)]
        refused = self.learner.learner.learn_many(records, {"feedback.v1/0": len(records)})
        self.decider.follow_plan()
        for record in records:
            self.decider.add(record)
        self.decider.decide()
        return refused


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    started = Service(store, tmp_path)
    started.start()
    yield started
    started.close()


def events(name: str) -> list[Event]:
    return [Event(id=f"{name}-{number}", text=make_text(number)) for number in range(NUM_EVENTS)]


def share_right(answers: Sequence[Answer], labels: Sequence[str]) -> float:
    right = [answer.label == label for answer, label in zip(answers, labels, strict=True)]
    return sum(right) / len(right)


def test_an_event_is_answered_by_the_version_that_has_learnt_its_label(service: Service) -> None:
    labels = [label_of(number) for number in range(NUM_EVENTS)]
    assert service.publish() == 1
    before = service.answer(events("first"))
    assert {(answer.weights_version, answer.arm, answer.label) for answer in before} == {(1, "stable", None)}
    service.label(before, labels)

    assert service.publish(objection="it is to be judged by labels") == 2
    compared = service.answer(events("second"))
    assert {(answer.weights_version, answer.arm) for answer in compared} == {(1, "stable"), (2, "candidate")}
    service.label(compared, labels)

    service.await_swap()
    after = service.answer(events("first"))
    assert {(answer.weights_version, answer.arm) for answer in after} == {(2, "stable")}
    assert share_right(before, labels) == 0.0
    assert share_right(after, labels) >= MIN_RIGHT


def test_a_version_that_adds_to_one_that_knows_nothing_is_stable_at_once(service: Service) -> None:
    labels = [label_of(number) for number in range(NUM_EVENTS)]
    service.publish()
    service.label(service.answer(events("first")), labels)
    assert service.publish() == 2
    after = service.answer(events("second"))
    assert {(answer.weights_version, answer.arm) for answer in after} == {(2, "stable")}
    assert share_right(after, labels) >= MIN_RIGHT
