"""Two tasks of one service, through the whole flow of `test_in_memory`: each learns its own labels, from one forward.

What one of them rolls out and rolls back leaves the answers of the other as they were, to the last bit of a score.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from rollout.operator import Operator
from tests.flow.test_in_memory import NUM_EVENTS, Service, events, share_right
from tests.flow.test_multilabel import SetService, labels, mean_f1
from tests.flow.test_multilabel import events as events_with_sets
from tests.learner.streams import label_of
from tests.stores import KEYS
from wire.config import StoreConfig
from wire.records import Answer, TaskAnswer
from wire.store import Store
from wire.tasks import TaskNames

URGENCY = "urgency"
QUEUES = [label_of(number) for number in range(NUM_EVENTS)]
URGENCIES = ["high" if queue in sorted(set(QUEUES))[:2] else "low" for queue in QUEUES]


@pytest.fixture
def queue(store: Store, tmp_path: Path) -> Iterator[Service]:
    """The default task, which says to which queue a message goes."""
    started = Service(store, tmp_path / "queue")
    started.start()
    yield started
    started.close()


@pytest.fixture
def urgency_store(store_config: StoreConfig) -> Iterator[Store]:
    with closing(Store(store_config, KEYS, task=URGENCY)) as opened:
        yield opened


@pytest.fixture
def urgency(queue: Service, urgency_store: Store, tmp_path: Path) -> Iterator[Service]:
    started = Service(urgency_store, tmp_path / URGENCY, task=URGENCY, beside=queue)
    started.start()
    yield started
    started.swap.close()


@pytest.fixture
def subjects(queue: Service, urgency_store: Store, tmp_path: Path) -> Iterator[SetService]:
    """The other task, which says what a message is about: a set of subjects."""
    started = SetService(urgency_store, tmp_path / URGENCY, task=URGENCY, beside=queue)
    started.start()
    yield started
    started.swap.close()


def own(answers: Sequence[Answer], task: str = "") -> list[Answer]:
    """Returns the answers as a reader of the task has them."""
    found = [TaskNames((URGENCY,), task).for_reader(answer) for answer in answers]
    return [answer for answer in found if answer is not None]


def said(answers: Sequence[Answer]) -> list[TaskAnswer]:
    """Returns what was said, without what names the moment."""
    return [
        TaskAnswer(
            label=answer.label,
            score=answer.score,
            scores=answer.scores,
            weights_version=answer.weights_version,
            arm=answer.arm,
            precision=answer.precision,
            rollout_revision=answer.rollout_revision,
        )
        for answer in own(answers)
    ]


def test_each_task_learns_its_own_labels_of_the_same_events(queue: Service, urgency: Service) -> None:
    for service in (queue, urgency):
        assert service.publish() == 1
    before = queue.answer(events("first"))
    assert {(answer.label, answer.tasks[URGENCY].label) for answer in before} == {(None, None)}
    queue.label(own(before), QUEUES)
    urgency.label(own(before, URGENCY), URGENCIES)
    for service in (queue, urgency):
        assert service.publish() == 2
    after = queue.answer(events("second"))
    assert share_right(own(after), QUEUES) >= 0.9
    assert share_right(own(after, URGENCY), URGENCIES) >= 0.9
    live = [queue.pipeline.engine.live_versions(task) for task in ("", URGENCY)]
    assert live[0] and live[1] and live[0].versions[2].model.encoder is live[1].versions[2].model.encoder


def test_the_labels_of_tasks_may_be_of_different_kinds(queue: Service, subjects: SetService) -> None:
    queues = ["questions" if names else "greetings" for names in labels()]
    for service in (queue, subjects):
        service.publish()
    before = queue.answer(events_with_sets("first"))
    queue.label(own(before), queues)
    subjects.label_sets(own(before, URGENCY), labels())
    for service in (queue, subjects):
        service.publish()
    after = queue.answer(events_with_sets("second"))
    assert share_right(own(after), queues) >= 0.9
    assert mean_f1(own(after, URGENCY), labels()) >= 0.9
    assert {(answer.labels, answer.tasks[URGENCY].label) for answer in after} == {(None, None)}


def test_a_rollout_and_a_rollback_of_one_task_are_nothing_to_the_other(
    queue: Service, urgency: Service, urgency_store: Store
) -> None:
    for service in (queue, urgency):
        service.publish()
    first = queue.answer(events("first"))
    queue.label(own(first), QUEUES)
    urgency.label(own(first, URGENCY), URGENCIES)
    for service in (queue, urgency):
        service.publish()
    before = queue.answer(events("second"))

    urgency.label(own(before, URGENCY), URGENCIES)
    assert urgency.publish(objection="it is to be judged by labels") == 3
    candidate = queue.answer(events("second"))
    assert {answer.tasks[URGENCY].weights_version for answer in candidate} == {2, 3}
    operator = Operator(urgency_store, name="test")
    operator.promote(3, now_ms=120_000)
    urgency.await_swap()
    promoted = queue.answer(events("second"))
    assert {answer.tasks[URGENCY].weights_version for answer in promoted} == {3}
    operator.rollback(now_ms=130_000)
    urgency.await_swap()
    rolled_back = queue.answer(events("second"))
    assert {answer.tasks[URGENCY].weights_version for answer in rolled_back} == {2}

    assert said(before) == said(candidate) == said(promoted) == said(rolled_back)
