"""The settings of tasks: what a task sets holds for it alone, and what it may not set is refused by its name."""

from typing import Any

import pytest
from pydantic import ValidationError

from serving.config import RefusalConfig, ServingConfig
from serving.replica_config import ReplicaConfig, ReplicaSettings, task_overrides, task_problems, task_settings
from tests.stores import KEYS
from wire.config import BusConfig, LabelConfig, TrustConfig
from wire.mapping import FeedbackMap, MapConfig


def test_a_task_differs_where_it_says_so() -> None:
    settings = ReplicaSettings(
        labels=LabelConfig(mode="ask"),
        serving=ServingConfig(refusal=RefusalConfig(min_score=0.2)),
        tasks={"urgency": {"labels": {"mode": "listed", "allow": ["low", "high"]}}, "queue": {}},
    )
    config = ReplicaConfig.of(settings, ring=KEYS, trust=TrustConfig())
    assert list(config.all_tasks) == ["", "urgency", "queue"]
    assert [task.labels.mode for task in config.all_tasks.values()] == ["ask", "listed", "ask"]
    assert {task.refusal.min_score for task in config.all_tasks.values()} == {0.2}


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ({"Urgency": {}}, "tasks.Urgency: the name of a task"),
        ({"a:b": {}}, "tasks.a:b: the name of a task"),
        ({"urgency": {"bus": {"prefix": "x"}}}, "tasks.urgency.bus.prefix cannot be set for one task"),
        ({"urgency": {"serving": {"threads": 2}}}, "tasks.urgency.serving.threads cannot be set for one task"),
        ({"urgency": {"labels": {"mod": "ask"}}}, "tasks.urgency.labels.mod"),
        ({"urgency": {"labels": {"mode": "asked"}}}, "tasks.urgency.labels.mode"),
    ],
)
def test_what_a_task_may_not_be_or_set_is_refused_by_its_name(tables: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ReplicaSettings(tasks=tables)


def test_labels_of_a_map_of_its_own_are_of_the_task() -> None:
    tables = {"urgency": {"bus": {"map": {"feedback": {"label": "{urgency}"}}}}, "queue": {}}
    assert task_settings(tables, "urgency")["bus.map.feedback.task"] == "urgency"
    assert task_settings(tables, "queue") == {}
    assert task_problems(tables, {}) == []


def test_a_map_of_a_task_has_labels_of_one_kind() -> None:
    settings = ReplicaSettings(
        bus=BusConfig(map=MapConfig(feedback=FeedbackMap(topic=("crm",), event_id="{id}", label="{queue}"))),
        tasks={"subjects": {"labels": {"kind": "multilabel"}, "bus": {"map": {"feedback": {"labels": "{tags}"}}}}},
    )
    of_task = settings.of_task("subjects")
    mapped = of_task.bus.map.feedback
    assert (of_task.labels.kind, mapped.label, mapped.labels) == ("multilabel", "", "{tags}")
    assert (settings.labels.kind, settings.bus.map.feedback.label) == ("class", "{queue}")


def test_flags_win_over_what_the_task_of_the_settings_sets() -> None:
    values = {"task": "urgency", "tasks.urgency.labels.mode": "ask", "labels.mode": "open"}
    assert task_overrides(values, {}) == {"labels.mode": "ask"}
    assert task_overrides(values, {"labels.mode": "open"}) == {}
    assert task_overrides({"tasks.urgency.labels.mode": "ask"}, {}) == {}
