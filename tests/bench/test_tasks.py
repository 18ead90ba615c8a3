"""A task is measured once all replicas answer with a version that knows its classes."""

import pytest

from bench.tasks import await_classes, check_own_blocks
from evals.results.row import NoResult
from tests.serving.versions import TinyPublisher, make_labels
from wire.records import ReplicaReport
from wire.store import Store


def test_a_version_with_the_classes_is_waited_for_until_replicas_answer_by_it(store: Store) -> None:
    learner = TinyPublisher(store)
    learner.publish(1)
    plan = learner.plan(1)
    num = len(make_labels(1))
    with pytest.raises(NoResult, match="task urgency did not learn"):
        await_classes(store, "urgency", num, within_s=0.0)
    store.reports.write_replica(ReplicaReport(replica="r1", revision=plan.revision, versions=(1,), time_ms=1))
    await_classes(store, "urgency", num, within_s=5.0)
    with pytest.raises(NoResult):
        await_classes(store, "urgency", num + 1, within_s=0.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "2 tasks have 1 upper parts on 1 lower ones"),
        ({"layers.5.up": "b", "layers.3.up": "b"}, "2 tasks have 2 upper parts on 2 lower ones"),
    ],
)
def test_tasks_have_upper_blocks_of_their_own_on_common_lower_ones(changed: dict[str, str], message: str) -> None:
    first = {"embed.word": "a", "layers.3.up": "a", "layers.5.up": "a"}
    check_own_blocks([first, first | {"layers.5.up": "b"}])
    with pytest.raises(NoResult, match=message):
        check_own_blocks([first, first | changed])
