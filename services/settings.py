"""Every setting of every process, in one schema; loaded once, at the command line, and passed on as plain values.

    lifelong.toml < environment LIFELONG_* < flags --> entries --> Settings     (sources.py reads, loader.py merges)
    Settings --> as_environment --> a child process loads the same settings from its environment

The rooms own their sections: names, defaults and documentation are those of the dataclass in each room's config.py. A
test freezes the set of all settings.

Rejected: the environment source of pydantic-settings. It ignores variables that name no setting and sections that are
plain dataclasses, and stops at the first value that it cannot parse; we report all mistakes together.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from learner.config import MAX_SEED, LearnerConfig
from rollout.config import RolloutConfig
from services.schema import Setting, settings_of
from services.sources import variable_of
from serving.config import ServingConfig
from wire.config import BusConfig, StoreConfig, nested, require
from wire.logs import LogConfig, secrets_in

MIN_KEY_CHARS = 16


def _default_state_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "lifelong"


class Settings(BaseSettings):
    """All settings. The sections are the configurations of the rooms."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    state_dir: Path = Field(default_factory=_default_state_dir)
    """Folder of this machine's state: servers' data, checkpoints, logs, the signing key. Default: XDG state home."""
    data: Path | None = None
    """Folder of the data sets that `lifelong demo --data NAME` looks in."""
    encoder: str = "minilm-l6"
    """The encoder to start from: `minilm-l6` (installed with us), a local folder, or a cached Hugging Face id."""
    seed: Annotated[int, Ge(0), Le(MAX_SEED)] = 0
    """Seed of all random numbers."""
    signing_key: SecretStr | None = None
    """Secret that signs weights and plans, 16 characters or more. Generated where Redis is started by us."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_json: bool = False
    """Whether logs are JSON lines instead of text."""

    bus: BusConfig = BusConfig()
    """The Kafka client, and the broker that is started where none is named."""
    store: StoreConfig = StoreConfig()
    """The Redis client, and the server that is started where none is named."""
    serving: ServingConfig = ServingConfig()
    """The replicas."""
    learner: LearnerConfig = LearnerConfig()
    """The learner."""
    rollout: RolloutConfig = RolloutConfig()
    """The rollout controller."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Disables the sources of pydantic-settings: `services.loader` reads them."""
        return (init_settings,)

    @field_validator("state_dir", "data")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else None

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level not in ("debug", "info", "warning", "error"):
            raise ValueError("Choose debug, info, warning or error")
        return level

    @field_validator("signing_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < MIN_KEY_CHARS:
            raise ValueError(f"Choose a secret of {MIN_KEY_CHARS} characters or more")
        return key

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        """Checks conditions between sections: a slow command must not lose a lease, nor a late report expire."""
        longest_command_ms = 3 * self.store.timeout_ms  # it is tried three times
        require(
            (
                self.learner.lease_ttl_ms > longest_command_ms,
                "learner.lease_ttl_ms must be above three times store.timeout_ms, or a slow reply loses the lease",
            ),
            (
                self.rollout.lease_ms > longest_command_ms,
                "rollout.lease_ms must be above three times store.timeout_ms, or a slow reply loses the lease",
            ),
            (
                2_000 * self.serving.report_interval_s <= self.store.report_ttl_ms,
                "store.report_ttl_ms must be at least twice serving.report_interval_s, or replicas seem to be gone",
            ),
        )
        return self


@cache
def known() -> dict[str, Setting]:
    """Returns every setting by dotted name."""
    return settings_of(Settings, Settings.model_fields)


def values_of(settings: Settings) -> dict[str, Any]:
    """Returns every value by dotted name, secrets included."""
    return {name: _value(settings, name) for name in known()}


def logs_of(settings: Settings) -> LogConfig:
    """Returns the logging configuration of processes under these settings, which hides all their secrets."""
    return LogConfig(settings.log_level, settings.log_json, secrets_in([*values_of(settings).values()]))


def as_environment(settings: Settings) -> dict[str, str]:
    """Returns the variables from which a child process loads the same settings, the signing key included."""
    values = values_of(settings)
    return {variable_of(name): _as_text(value) for name, value in values.items() if value is not None}


def replaced(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Returns the settings with some values changed, by dotted name. The values must have the right types."""
    changed = {name: _changed(getattr(settings, name), new) for name, new in nested(changes).items()}
    return settings.model_copy(update=changed)


def _changed(value: Any, new: Any) -> Any:
    """Returns `new`, or, where `value` is a section, the section with the fields of `new` changed."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return new
    return dataclasses.replace(value, **{name: _changed(getattr(value, name), each) for name, each in new.items()})


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _as_text(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps([_plain(each) for each in value] if isinstance(value, tuple | set | frozenset) else value)


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
