"""The settings that replicas read, all sections of them, for each task; and what a replica is given of them.

    [tasks.urgency.labels]  mode = "listed"  --rows_of--> labels.mode, if the task is "urgency"
    TOML, environment, flags --> ReplicaSettings, and for each task of_task --> ReplicaConfig

A task is the service once more: what it does not set is as for the default one. What belongs to all tasks together,
such as topics, batches and addresses, no task can set.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from annotated_types import MaxLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from serving.config import RefusalConfig, ServingConfig
from wire.config import (
    BusConfig,
    LabelConfig,
    MetricsConfig,
    StoreConfig,
    TracesConfig,
    TrustConfig,
    flat,
    nested,
    require,
)
from wire.keyring import KeyRing
from wire.logs import LogConfig, LogLevel, secrets_in
from wire.sections import constants, decoded, refused_constant
from wire.tasks import DEFAULT

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


def problems_of(tables: Mapping[str, Mapping[str, Any]], known_constants: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with the names of tasks, and with what they set.

    `known_constants` are those of all sections: a task sets none of them.
    """
    problems = [
        f"tasks.{task}: a task has a name of up to 63 small letters, digits, - and _"
        for task in tables
        if not NAME.fullmatch(task)
    ]
    for task in tables:
        for name in flat(tables[task]):
            if name in known_constants:
                problems.append(f"tasks.{task}.{refused_constant(name, known_constants[name])}")
            elif not name.startswith(tuple(f"{section}." for section in OWN)):
                problems.append(f"tasks.{task}.{name} is of all tasks together; a task sets {', '.join(OWN)}")
    return problems


class ReplicaSettings(BaseModel):
    """The settings that replicas read, by name. Those of all processes extend them (`services/settings.py`)."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # the input may hold secrets
        use_attribute_docstrings=True,
    )

    encoder: str = "minilm-l6"
    """The encoder to start from: `minilm-l6` (installed with us), a local folder, a cached Hugging Face id, or
    `module:Class`, a class of yours."""
    profile: Literal["", "nano", "base", "pro"] = ""
    """Fills in what it fixes, where nothing else sets it: see `lifelong profile`. Empty: none."""
    log_level: LogLevel = LogConfig().level
    """Lowest level of what is logged."""
    log_json: bool = LogConfig().as_json
    """Whether logs are JSON lines instead of text."""

    bus: BusConfig = BusConfig()
    store: StoreConfig = StoreConfig()
    metrics: MetricsConfig = MetricsConfig()
    traces: TracesConfig = TracesConfig()
    labels: LabelConfig = LabelConfig()
    serving: ServingConfig = ServingConfig()
    tasks: TaskTables = {}
    """Tasks besides the default one (docs/tasks.md): `[tasks.NAME]`, with the settings in which it differs, such as
    `[tasks.NAME.labels]`."""

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        require(*((False, problem) for problem in problems_of(self.tasks, constants(dict(self)))))
        for task in self.tasks:
            self.of_task(task)
        return self

    def of_task(self, task: str) -> Self:
        """Returns the settings of a task: those of the default one, but for what it sets. Raises ValueError."""
        known = type(self).model_fields.keys() - {"task", "tasks"}
        values = inherited(flat(self.model_dump()), {}) | rows_of(self.tasks, task)
        try:
            return type(self)(**nested({name: each for name, each in values.items() if _section(name) in known}))
        except ValidationError as error:
            raise ValueError("; ".join(_mistake(task, each) for each in error.errors())) from error

    @property
    def logs(self) -> LogConfig:
        """The level and the format of the log, which hides every secret of these settings."""
        return LogConfig(self.log_level, self.log_json, secrets_in([*dict(self).values()]))


def _mistake(task: str, detail: ErrorDetails) -> str:
    place = ".".join(("tasks", task, *map(str, detail["loc"])))
    return f"{place}: {detail['msg'].removeprefix('Value error, ')}"


def _section(name: str) -> str:
    return name.partition(".")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaConfig:
    """Everything that a replica needs to know; keys and addresses are left out of its repr. `encoder`
    names whose tokenizer, or whose class, is used; the weights come from the store."""

    encoder: str
    profile: str = ""
    serving: ServingConfig
    bus: BusConfig = field(repr=False)
    store: StoreConfig = field(repr=False)
    ring: KeyRing = field(repr=False)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    traces: TracesConfig = field(default_factory=TracesConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    trust: TrustConfig = field(default_factory=TrustConfig)  # of the learner, which sees the same labels
    tasks: Mapping[str, TaskConfig] = field(default_factory=dict)  # besides the default one
    logs: LogConfig = field(default_factory=LogConfig)

    @property
    def all_tasks(self) -> dict[str, TaskConfig]:
        """Every task by its name, the default one first."""
        return {DEFAULT: TaskConfig(labels=self.labels, refusal=self.serving.refusal), **self.tasks}

    @classmethod
    def of(cls, settings: ReplicaSettings, *, ring: KeyRing, trust: TrustConfig) -> "ReplicaConfig":
        """Returns the configuration of replicas under these settings, whose logs hide the keys, too.

        `trust` is the learner's, whose section a replica does not read. Where no spool is set, as by `serve run`, there
        is one in the user's state home.
        """
        serving = settings.serving
        if not serving.spool_dir:
            serving = replace(serving, spool_dir=str(spool_of(settings.bus, settings.store)))
        return cls(
            encoder=settings.encoder,
            profile=settings.profile,
            serving=serving,
            bus=settings.bus,
            store=settings.store,
            metrics=settings.metrics,
            traces=settings.traces,
            labels=settings.labels,
            trust=trust,
            tasks={task: _task_config(settings.of_task(task)) for task in settings.tasks},
            ring=ring,
            logs=replace(settings.logs, secrets=(*ring.secrets, *settings.logs.secrets)),
        )


def spool_of(bus: BusConfig, store: StoreConfig) -> Path:
    """Returns a folder that no other service has: it is named by the servers and the prefixes of this one."""
    service = "\n".join((bus.bootstrap_servers, bus.prefix, store.prefix))
    home = Path(os.getenv("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return home / "lifelong" / f"spool-{sha256(service.encode()).hexdigest()[:16]}"


def _task_config(settings: ReplicaSettings) -> TaskConfig:
    return TaskConfig(labels=settings.labels, refusal=settings.serving.refusal)
