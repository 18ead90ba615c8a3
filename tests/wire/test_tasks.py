"""Tests which tasks answer an event, and which records a task reads."""

import pytest

from tests.wire.samples import URGENCY, answer_to
from wire.errors import BadMessage
from wire.records import Answer, DeadLetter, Event, Feedback
from wire.tasks import TaskNames

TASKS = TaskNames(("queue", "urgency"))


def test_a_label_is_read_only_by_its_task() -> None:
    label = Feedback(event_id="e", label="high", task="urgency")
    assert TaskNames(TASKS.names, "urgency").for_reader(label) is label
    assert [TaskNames(TASKS.names, task).for_reader(label) for task in ("", "queue")] == [None, None]


def test_an_answer_is_read_as_the_tasks_answer() -> None:
    answer = answer_to("e", tasks={"urgency": URGENCY})
    own: dict[str, Answer | None] = {task: TaskNames(TASKS.names, task).for_reader(answer) for task in TASKS.all}
    assert own[""] == answer_to("e")
    assert own["queue"] is None
    assert own["urgency"] is not None
    assert (own["urgency"].task, own["urgency"].label, own["urgency"].text) == ("urgency", "high", "hello")


@pytest.mark.parametrize(
    "record", [Event(id="e", text="a", tasks=("urgncy",)), Feedback(event_id="e", label="b", task="urgncy")]
)
def test_an_unknown_task_is_refused_by_its_name(record: Event | Feedback) -> None:
    with pytest.raises(BadMessage, match=r"there is no task 'urgncy'\. Did you mean 'urgency'"):
        TASKS.check(record)


@pytest.mark.parametrize(
    ("tasks", "fix"), [(TASKS, "There are 'queue', 'urgency', and the default one"), (TaskNames(), r"\[tasks.NAME\]")]
)
def test_the_refusal_lists_the_tasks(tasks: TaskNames, fix: str) -> None:
    with pytest.raises(BadMessage, match=fix):
        tasks.check(Event(id="e", text="a", tasks=("colour",)))


def test_records_of_no_task_are_for_every_reader() -> None:
    letter = DeadLetter(reason="empty", detail="", topic="events.v1", partition=0, offset=1, payload=b"")
    TASKS.check(letter)
    assert TaskNames(TASKS.names, "queue").for_reader(letter) is letter
