"""The settings that replicas read, all sections of them, and what a replica is given of them.

    TOML, environment, flags --> ReplicaSettings, and for each task of_task --> ReplicaConfig

Rejected: settings that are passed on as they are (a replica needs keys, which are no settings, and no other sections).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from serving.config import ServingConfig
from serving.task_config import TaskConfig, TaskTables, inherited, problems_of, rows_of
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
from wire.tasks import DEFAULT


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
        require(*((False, problem) for problem in problems_of(self.tasks)))
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
