"""Tests the answers of several tasks to one event."""

import msgspec

from tests.wire.samples import URGENCY, answer_to
from wire.records import TaskAnswer


def test_the_answer_of_each_task_is_whole() -> None:
    answer = answer_to("e", key="c", audit=True, tasks={"urgency": URGENCY})
    of_urgency = answer.of_task("urgency")
    assert of_urgency is not None
    own = {field.name: getattr(of_urgency, field.name) for field in msgspec.structs.fields(TaskAnswer)}
    assert TaskAnswer(**own) == URGENCY
    assert (of_urgency.event_id, of_urgency.entity, of_urgency.audit) == ("e", "c", True)
    assert of_urgency.tasks == {}


def test_a_task_that_did_not_answer_has_no_answer() -> None:
    answer = answer_to("e", task="urgency")
    assert answer.of_task("") is None
    assert answer.of_task("urgency") is answer


def test_the_prediction_of_a_refused_answer_is_the_weights_class() -> None:
    assert URGENCY.prediction == "high"
    assert msgspec.structs.replace(URGENCY, refused=False, label="low").prediction == "low"
