"""Every setting of every process, in one schema; read once, at the command line, and handed on as plain values.

    lifelong.toml < environment LIFELONG_* < flags --> entries --> Settings        (services/sources.py reads)
    what nobody set --> what follows from another setting, what `lifelong tune` found, else the default
    Settings --> as_environment --> a child process reads the same settings by the same door

The rooms own their sections: names, defaults and documentation are those of the dataclass in each room's config.py. The
set of all settings is frozen by a test.

Rejected: the environment source of pydantic-settings. It does not see variables that name no setting, nor sections that
are plain dataclasses, and stops at the first value that it cannot parse; we name everything that is wrong at once.
"""

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from learner.config import MAX_SEED, LearnerConfig
from rollout.config import RolloutConfig
from services.schema import Setting, settings_of
from services.sources import (
    BadSettings,
    SettingEntry,
    SettingProblem,
    read_environment,
    read_file,
    read_flags,
    variable_of,
)
from services.tune import table as kept
from services.tune.layout import best
from serving.config import ServingConfig
from wire.config import BusConfig, StoreConfig, require
from wire.logs import HIDDEN, LogConfig, secrets_in

MIN_KEY_CHARS = 16


def _default_state_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "lifelong"


class Settings(BaseSettings):
    """Every setting. Sections are the configurations of the rooms."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    state_dir: Path = Field(default_factory=_default_state_dir)
    """Folder of what this machine keeps: servers' data, checkpoints, logs, the signing key. Default: XDG state home."""
    data: Path | None = None
    """Folder of the data sets that `lifelong demo --data NAME` looks in."""
    encoder: str = "minilm-l6"
    """The encoder to begin from: `minilm-l6` (installed with us), a local folder, or a cached Hugging Face id."""
    seed: Annotated[int, Ge(0), Le(MAX_SEED)] = 0
    """Seed of everything that is drawn."""
    signing_key: SecretStr | None = None
    """Secret under which weights and plans are signed, 16 characters or more. Made by itself where Redis is ours."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_json: bool = False
    """Whether logs are JSON lines instead of text."""

    bus: BusConfig = BusConfig()
    """The Kafka door."""
    store: StoreConfig = StoreConfig()
    """The Redis door."""
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
        """Nothing is read behind our back: see `load`."""
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
        """What the rooms cannot see by themselves: a holder must be able to renew its lease, and a report to live."""
        longest_command_ms = 3 * self.store.timeout_ms  # tried three times
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


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, and where each value that is no default was set."""

    settings: Settings
    sources: dict[str, str]


@cache
def known() -> dict[str, Setting]:
    """Every setting there is, by dotted name."""
    return settings_of(Settings, Settings.model_fields)


def load(*, file: Path | None, environ: Mapping[str, str], flags: Sequence[str] = ()) -> Loaded:
    """The settings in force. Raises BadSettings, naming everything that is wrong, its source and the remedy."""
    readings = (read_file(file), read_environment(environ), read_flags(flags))
    problems = [problem for reading in readings for problem in reading.problems]
    good: dict[str, SettingEntry] = {}
    for entry in (entry for reading in readings for entry in reading.entries):
        wrong = _problem_of(entry)
        if wrong is None:
            good[entry.name] = entry  # the later source wins
        else:
            problems.append(wrong)
    settings, more = _assemble(good)
    if problems or more or settings is None:
        raise BadSettings([*problems, *more])
    return _derived(settings, {name: entry.source for name, entry in good.items()})


def values_of(settings: Settings) -> dict[str, Any]:
    """Every value by dotted name, secrets included."""
    return {name: _value(settings, name) for name in known()}


def logs_of(settings: Settings) -> LogConfig:
    """How the processes under these settings log. Whatever is a secret among them is hidden."""
    return LogConfig(settings.log_level, settings.log_json, secrets_in([*values_of(settings).values()]))


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables under which a child process reads these very settings. Holds the signing key."""
    values = values_of(settings)
    return {variable_of(name): _as_text(value) for name, value in values.items() if value is not None}


def _problem_of(entry: SettingEntry) -> SettingProblem | None:
    setting = known().get(entry.name)
    if setting is None:
        return _unknown(entry)
    try:
        Settings.model_validate(_nested({entry.name: _parsed(entry)}))
    except ValidationError as error:
        leaf = tuple(entry.name.split("."))
        found = [detail for detail in error.errors() if detail["loc"][: len(leaf)] == leaf]
        if found:
            shown = HIDDEN if setting.is_secret else repr(setting.shown(entry.value))
            said = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in found)
            kind = ", ".join(filter(None, (setting.kind, setting.limits)))
            fix = f"It is {kind}, by default {setting.shown(setting.default)!r}: {setting.doc}"
            return SettingProblem(entry.source, f"{shown} is not accepted ({said})", fix)
    return None


def _unknown(entry: SettingEntry) -> SettingProblem:
    sections = {name.rpartition(".")[0] for name in known() if "." in name}
    if entry.name in sections:
        return SettingProblem(entry.source, f"{entry.name} is a section", f"Set its parts, such as {entry.name}.NAME")
    close = difflib.get_close_matches(entry.name, known(), n=1)
    hint = f"Did you mean {close[0]}?" if close else "`lifelong config show` lists all settings"
    return SettingProblem(entry.source, f"there is no setting {entry.name!r}", hint)


def _assemble(good: dict[str, SettingEntry]) -> tuple[Settings | None, list[SettingProblem]]:
    """The settings, or what is wrong with values that are fine one by one."""
    try:
        return Settings.model_validate(_nested({name: _parsed(entry) for name, entry in good.items()})), []
    except ValidationError as error:
        return None, [_combined(detail["msg"], good) for detail in error.errors()]


def _combined(said: str, good: dict[str, SettingEntry]) -> SettingProblem:
    """A problem of settings that `said` names, some of which somebody set."""
    sources = [entry.source for name, entry in good.items() if name in said]
    return SettingProblem(", ".join(sources), said.removeprefix("Value error, "), "Change one of them")


def _derived(settings: Settings, sources: dict[str, str]) -> Loaded:
    """Fills what follows from other settings, unless it was set itself."""
    follows = {
        "learner.state_dir": ("state_dir", str(settings.state_dir / "learner")),
        "learner.seed": ("seed", settings.seed),
        "serving.spool_dir": ("state_dir", str(settings.state_dir / "spool")),
        **_tuned(settings, sources),
    }
    for name, (origin, value) in follows.items():
        if name not in sources:
            settings = replaced(settings, {name: value})
            sources[name] = f"follows {origin}"
    return Loaded(settings, sources)


def _tuned(settings: Settings, sources: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Replicas and threads as `lifelong tune` found them best here; where one is set, the best of the other with it."""
    names = ("replicas", "threads")
    given = {name: getattr(settings.serving, name) for name in names if f"serving.{name}" in sources}
    winner = best(kept.read(settings.state_dir), **given)
    if winner is None:
        return {}
    return {f"serving.{name}": ("lifelong tune", getattr(winner.layout, name)) for name in names}


def replaced(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with some values changed, by dotted name. The values must be of the right type."""
    return settings.model_copy(
        update={name: _changed(getattr(settings, name), new) for name, new in _nested(changes).items()}
    )


def _changed(value: Any, new: Any) -> Any:
    """`new`; of a section, the section with the fields changed that `new` names."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return new
    return dataclasses.replace(value, **{name: _changed(getattr(value, name), each) for name, each in new.items()})


def _parsed(entry: SettingEntry) -> Any:
    return known()[entry.name].parse(entry.value) if isinstance(entry.value, str) else entry.value


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *sections, leaf = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return tree


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
