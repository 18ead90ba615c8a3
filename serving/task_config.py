"""The settings of the tasks of a service: for each, those in which it differs from the default task.

    [tasks.urgency.labels]  mode = "listed"  --rows_of--> labels.mode, where the task is "urgency"

A task is the service once more: what it does not set is as for the default one. What belongs to all tasks together,
such as topics, batches and addresses, no task can set.

Rejected: a section of its own for tasks, with fewer settings (each would be named, documented and checked twice).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeAlias

from annotated_types import MaxLen
from pydantic import BeforeValidator

from serving.refusal_config import RefusalConfig
from wire.config import LabelConfig, flat, nested
from wire.sections import decoded

MAX_TASKS: Final = 64
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""The name of a task is part of keys, folders and paths."""

OWN: Final = ("labels", "learner", "rollout", "serving.refusal", "bus.map.feedback")
"""The sections that a task may set."""

WEIGHTS: Final = "labels.class_weights"

MAP: Final = "bus.map.feedback."
MAPPED_LABELS: Final = tuple(f"{MAP}{name}" for name in ("label", "labels", "value"))
"""The settings of which one says where the label is: a task that sets one of them has none of the default task's."""


TaskTables: TypeAlias = Annotated[Mapping[str, Mapping[str, Any]], MaxLen(MAX_TASKS), BeforeValidator(decoded)]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """What replicas need to know of one task."""

    labels: LabelConfig = field(default_factory=LabelConfig)
    refusal: RefusalConfig = field(default_factory=RefusalConfig)


def rows_of(tables: Mapping[str, Mapping[str, Any]], task: str) -> dict[str, Any]:
    """Returns the settings of a task by dotted name. Labels that a map of its own makes are its own, of one kind.

    >>> rows_of({"spam": {"bus": {"map": {"feedback": {"event_id": "{ticket_id}"}}}}}, "spam")
    {'bus.map.feedback.event_id': '{ticket_id}', 'bus.map.feedback.task': 'spam'}
    """
    rows = flat(tables[task])
    if any(name.startswith(MAP) for name in rows):
        rows.setdefault(f"{MAP}task", task)
    if not rows.keys().isdisjoint(MAPPED_LABELS):
        rows = {**dict.fromkeys(MAPPED_LABELS, ""), **rows}
    return rows


def inherited(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a task has from the default one: not the weights of classes, whose names are of that one.

    >>> inherited({"labels.mode": "ask", "labels.class_weights.fraud": 9.0}, {})
    {'labels.mode': 'ask'}
    """
    return {name: value for name, value in values.items() if name in flags or not name.startswith(WEIGHTS)}


def own_rows(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the `task` of these values sets for itself, by dotted name; what `flags` set is as they say.

    >>> own_rows({"task": "urgency", "tasks.urgency.labels.mode": "ask"}, {})
    {'labels.mode': 'ask'}
    """
    task = values.get("task", "")
    tables = nested(values).get("tasks", {})
    if not isinstance(tables, Mapping) or not isinstance(tables.get(task), Mapping):
        return {}  # it is the default one, or a mistake, which is told with all others
    return {name: value for name, value in rows_of(tables, task).items() if name not in flags}


def problems_of(tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns what is wrong with the names of tasks, and with what they set."""
    problems = [
        f"tasks.{task}: a task has a name of up to 63 small letters, digits, - and _"
        for task in tables
        if not NAME.fullmatch(task)
    ]
    for task in tables:
        for name in flat(tables[task]):
            if not name.startswith(tuple(f"{section}." for section in OWN)):
                problems.append(f"tasks.{task}.{name} is of all tasks together; a task sets {', '.join(OWN)}")
    return problems
