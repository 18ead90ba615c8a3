"""Every setting of every process, in one model; loaded once, at the command line, and passed on as plain values.

    sections of the rooms --> Settings --known, described--> names, meanings and ranges
    Settings --as_environment--> a child process loads the same settings from its environment (`services.settings_load`)

The rooms own their sections: names, defaults, ranges and documentation are in the dataclass of each room's config.py.
"""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from learner.config import LearnerConfig, Seed
from rollout.config import RolloutConfig
from serving.config import ReplicaSettings
from wire.config import OrNone, flat, nested, require

PREFIX = "LIFELONG_"

MIN_KEY_CHARS = 16
FACTS = ("enum", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "default")
"""Keywords of JSON Schema that are said of a setting."""

Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class BadSettings(ValueError):
    """All mistakes in the settings, in one message. Each names its source, what is wrong, and the fix."""

    def __init__(self, *problems: str) -> None:
        count = "1 bad setting" if len(problems) == 1 else f"{len(problems)} bad settings"
        super().__init__("\n  ".join([f"{count}:", *problems]))
        self.problems = problems


class Settings(ReplicaSettings, BaseSettings):
    """The settings of Lifelong. The sections are the configurations of the rooms."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", enable_decoding=False, use_attribute_docstrings=True
    )

    state_dir: Folder = Field(default_factory=lambda: Path(os.getenv("XDG_STATE_HOME") or "~/.local/state", "lifelong"))
    """Folder of this machine's state: servers' data, checkpoints, logs, the signing key. Default: XDG state home."""
    data: OrNone[Folder] = None
    """Folder of the data sets that `lifelong demo --data NAME` looks in."""
    seed: Seed = LearnerConfig().seed
    """Seed of all random numbers."""
    signing_key: OrNone[Annotated[SecretStr, MinLen(MIN_KEY_CHARS)]] = None
    """Secret that signs weights and plans, 16 characters or more. Generated where Redis is started by us."""

    learner: LearnerConfig = LearnerConfig()
    rollout: RolloutConfig = RolloutConfig()

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, init_settings: Any, *_: Any, **__: Any) -> tuple[Any, ...]:
        """Leaves the file and the environment to `load`."""
        return (init_settings,)

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        """Checks conditions between sections: a slow command must not lose a lease, nor a late report expire."""
        longest_command_ms = 3 * self.store.timeout_ms  # it is tried three times
        slow = "must be above three times store.timeout_ms, or a slow reply loses the lease"
        gone = "must be at least twice serving.report_interval_s, or replicas seem to be gone"
        require(
            (self.learner.lease_ttl_ms > longest_command_ms, f"learner.lease_ttl_ms {slow}"),
            (self.rollout.lease_ms > longest_command_ms, f"rollout.lease_ms {slow}"),
            (2_000 * self.serving.report_interval_s <= self.store.report_ttl_ms, f"store.report_ttl_ms {gone}"),
        )
        return self


@cache
def known() -> dict[str, dict[str, Any]]:
    """Returns the JSON Schema of every setting by dotted name; `writeOnly` says whether its value is secret."""
    model = Settings.model_json_schema()
    schemas: dict[str, dict[str, Any]] = {}
    for name in values_of(Settings()):
        schema = model
        for part in name.split("."):
            schema = schema["properties"][part]
            schema = model["$defs"][schema["$ref"].removeprefix("#/$defs/")] if "$ref" in schema else schema
        schemas[name] = schema | schema.get("anyOf", [{}])[0] | {"writeOnly": "writeOnly" in str(schema)}
    return schemas


def described(name: str) -> str:
    """Returns the meaning of a setting, its type, its range and its default."""
    schema = known()[name]
    facts = [f"{key} {json.dumps(schema[key])}" for key in FACTS if key in schema]
    return f"{' '.join(schema['description'].split())} ({', '.join([schema['type'], *facts])})"


def values_of(settings: Settings) -> dict[str, Any]:
    """Returns every value by dotted name, secrets included."""
    return flat(settings.model_dump())


def replaced(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Returns the settings with some values changed, by dotted name."""
    return Settings(**nested({**values_of(settings), **changes}))


def variable_of(name: str) -> str:
    """Returns the environment variable of a setting: LIFELONG_BUS__PARTITIONS of bus.partitions."""
    return PREFIX + name.replace(".", "__").upper()


def as_environment(settings: Settings) -> dict[str, str]:
    """Returns the variables from which a child process loads the same settings, the signing key included."""
    return {variable_of(name): _as_text(value) for name, value in values_of(settings).items() if value is not None}


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps([*map(_as_text, value)]) if isinstance(value, tuple) else str(value)
