"""The settings that replicas read, their values for each task, and the configuration that a replica receives.

    [tasks.urgency.labels]  mode = "listed"  --task_settings--> labels.mode, if the task is "urgency"
    TOML, environment, flags --> ReplicaSettings, and for each task of_task --> ReplicaConfig

A task inherits the default task's value of every setting that it does not set itself. Settings that concern all tasks
together, such as topics, batches and addresses, cannot be set for one task.
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
from wire.sections import constants, parse_json_setting, refused_constant
from wire.tasks import DEFAULT

MAX_TASKS: Final = 64
TASK_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""The name of a task is part of keys, folders and paths."""

TASK_SECTIONS: Final = ("labels", "learner", "rollout", "serving.refusal", "bus.map.feedback")
"""The sections that a task may set."""

CLASS_WEIGHTS: Final = "labels.class_weights"

FEEDBACK_MAP: Final = "bus.map.feedback."
MAPPED_LABELS: Final = tuple(f"{FEEDBACK_MAP}{name}" for name in ("label", "labels", "value"))
"""Exactly one of these settings says where the label is. If a task sets one of them, it inherits none of them."""


TaskTables: TypeAlias = Annotated[
    Mapping[str, Mapping[str, Any]], MaxLen(MAX_TASKS), BeforeValidator(parse_json_setting)
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """The part of a task's settings that replicas need."""

    labels: LabelConfig = field(default_factory=LabelConfig)
    refusal: RefusalConfig = field(default_factory=RefusalConfig)


def task_settings(tables: Mapping[str, Mapping[str, Any]], task: str) -> dict[str, Any]:
    """Returns the settings that a task sets itself, by dotted name.

    If the task maps feedback, the mapped labels belong to this task. If it sets one of MAPPED_LABELS, the others become
    "", so that none is inherited.

    >>> task_settings({"spam": {"bus": {"map": {"feedback": {"event_id": "{ticket_id}"}}}}}, "spam")
    {'bus.map.feedback.event_id': '{ticket_id}', 'bus.map.feedback.task': 'spam'}
    """
    rows = flat(tables[task])
    if any(name.startswith(FEEDBACK_MAP) for name in rows):
        rows.setdefault(f"{FEEDBACK_MAP}task", task)
    if not rows.keys().isdisjoint(MAPPED_LABELS):
        rows = {**dict.fromkeys(MAPPED_LABELS, ""), **rows}
    return rows


def inherited_settings(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that a task inherits from the default task, by dotted name.

    Class weights are inherited only if `flags` set them, because otherwise they name the default task's classes.

    >>> inherited_settings({"labels.mode": "ask", "labels.class_weights.fraud": 9.0}, {})
    {'labels.mode': 'ask'}
    """
    return {name: value for name, value in values.items() if name in flags or not name.startswith(CLASS_WEIGHTS)}


def task_overrides(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings in the table of the task `values["task"]`, by dotted name. Settings in `flags` are left out.

    >>> task_overrides({"task": "urgency", "tasks.urgency.labels.mode": "ask"}, {})
    {'labels.mode': 'ask'}
    """
    task = values.get("task", "")
    tables = nested(values).get("tasks", {})
    # The task is the default one, or a mistake. Mistakes are reported together, by `task_problems`.
    if not isinstance(tables, Mapping) or not isinstance(tables.get(task), Mapping):
        return {}
    return {name: value for name, value in task_settings(tables, task).items() if name not in flags}


def task_problems(tables: Mapping[str, Mapping[str, Any]], known_constants: Mapping[str, Any]) -> list[str]:
    """Returns the mistakes in the names of tasks and in their settings.

    `known_constants` are the constants of all sections: they cannot be set, so a task cannot set them either.
    """
    problems = [
        f"tasks.{task}: the name of a task has up to 63 lower-case letters, digits, - and _; rename the task"
        for task in tables
        if not TASK_NAME.fullmatch(task)
    ]
    for task in tables:
        for name in flat(tables[task]):
            if name in known_constants:
                problems.append(f"tasks.{task}.{refused_constant(name, known_constants[name])}")
            elif not name.startswith(tuple(f"{section}." for section in TASK_SECTIONS)):
                problems.append(
                    f"tasks.{task}.{name} cannot be set for one task: set {name} for all tasks. "
                    f"A task may set {', '.join(TASK_SECTIONS)}"
                )
    return problems


class ReplicaSettings(BaseModel):
    """The settings that replicas read, by name. `services/settings.py` extends them to all processes' settings."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        # The input may hold secrets.
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    encoder: str = "minilm-l6"
    """The encoder to start from: `minilm-l6` (installed with this package), a local folder, a cached Hugging Face id,
    or `module:Class`, a class of yours."""
    profile: Literal["", "nano", "base", "pro", "static"] = ""
    """A named set of defaults, which your own settings override: see `lifelong profile`. Empty: none."""
    log_level: LogLevel = LogConfig().level
    """Lowest level of the log messages that are written."""
    log_json: bool = LogConfig().as_json
    """Whether logs are JSON lines instead of text."""

    bus: BusConfig = BusConfig()
    store: StoreConfig = StoreConfig()
    metrics: MetricsConfig = MetricsConfig()
    traces: TracesConfig = TracesConfig()
    labels: LabelConfig = LabelConfig()
    serving: ServingConfig = ServingConfig()
    tasks: TaskTables = {}
    """Tasks besides the default task (docs/tasks.md): `[tasks.NAME]`, with the settings that differ from the default
    task, such as `[tasks.NAME.labels]`."""

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        require(*((False, problem) for problem in task_problems(self.tasks, constants(dict(self)))))
        for task in self.tasks:
            self.of_task(task)
        return self

    def of_task(self, task: str) -> Self:
        """Returns a task's complete settings, inherited ones included. Raises ValueError."""
        known = type(self).model_fields.keys() - {"task", "tasks"}
        values = inherited_settings(flat(self.model_dump()), {}) | task_settings(self.tasks, task)
        try:
            return type(self)(**nested({name: value for name, value in values.items() if _section(name) in known}))
        except ValidationError as error:
            raise ValueError("; ".join(_mistake(task, detail) for detail in error.errors())) from error

    @property
    def logs(self) -> LogConfig:
        """The level and the format of the log. The log hides every secret of these settings."""
        return LogConfig(self.log_level, self.log_json, secrets_in([*dict(self).values()]))


def _mistake(task: str, detail: ErrorDetails) -> str:
    name = ".".join(("tasks", task, *map(str, detail["loc"])))
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}"


def _section(name: str) -> str:
    return name.partition(".")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaConfig:
    """The complete configuration of a replica. Its repr shows no keys and no addresses.

    - `encoder`: names the tokenizer, or the user's class; the weights come from the store
    - `trust`: the learner's settings for the trust in labels, because the learner reads the same labels
    - `tasks`: the tasks besides the default task
    """

    encoder: str
    profile: str = ""
    serving: ServingConfig
    bus: BusConfig = field(repr=False)
    store: StoreConfig = field(repr=False)
    ring: KeyRing = field(repr=False)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    traces: TracesConfig = field(default_factory=TracesConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    trust: TrustConfig = field(default_factory=TrustConfig)
    tasks: Mapping[str, TaskConfig] = field(default_factory=dict)
    logs: LogConfig = field(default_factory=LogConfig)

    @property
    def all_tasks(self) -> dict[str, TaskConfig]:
        """Every task by its name, the default one first."""
        return {DEFAULT: TaskConfig(labels=self.labels, refusal=self.serving.refusal), **self.tasks}

    @classmethod
    def of(cls, settings: ReplicaSettings, *, ring: KeyRing, trust: TrustConfig) -> "ReplicaConfig":
        """Returns the replicas' configuration under these settings. Its logs hide the keys, too.

        `trust` is the learner's section, which replicas do not read themselves. If no spool folder is set, as with
        `serve run`, the spool is in the user's state home.
        """
        serving = settings.serving
        if not serving.spool_dir:
            serving = replace(serving, spool_dir=str(default_spool_dir(settings.bus, settings.store)))
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


def default_spool_dir(bus: BusConfig, store: StoreConfig) -> Path:
    """Returns a folder in the user's state home whose name depends on this service's servers and prefixes.

    So two services of one user do not share a folder.
    """
    service = "\n".join((bus.bootstrap_servers, bus.prefix, store.prefix))
    home = Path(os.getenv("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return home / "lifelong" / f"spool-{sha256(service.encode()).hexdigest()[:16]}"


def _task_config(settings: ReplicaSettings) -> TaskConfig:
    return TaskConfig(labels=settings.labels, refusal=settings.serving.refusal)
