"""Loads the settings: merges the sources by precedence, validates every value, and fills in what follows from others.

    lifelong.toml < environment LIFELONG_* < flags --> entries --> Settings --> derived and tuned values --> Loaded

A setting that no source sets is derived from another setting, or is the best layout of `lifelong tune`, or has its
default. All mistakes are collected, and reported together in one BadSettings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from services.settings import Settings, known, replaced
from services.sources import BadSettings, SettingEntry, SettingProblem, read_environment, read_file, read_flags
from services.tune import table as tune_table
from services.tune.layout import best
from wire.config import nested
from wire.logs import HIDDEN


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, and by dotted name the source of each value that is not a default."""

    settings: Settings
    sources: dict[str, str]


def load(*, file: Path | None, environ: Mapping[str, str], flags: Sequence[str] = ()) -> Loaded:
    """Returns the settings in force. Raises BadSettings, which names every mistake, its source and the remedy."""
    readings = (read_file(file), read_environment(environ), read_flags(flags))
    problems = list(chain.from_iterable(reading.problems for reading in readings))
    valid: dict[str, SettingEntry] = {}
    for entry in chain.from_iterable(reading.entries for reading in readings):
        problem = _problem_of(entry)
        if problem is None:
            valid[entry.name] = entry  # the later source takes precedence
        else:
            problems.append(problem)
    settings, conflicts = _assemble(valid)
    if problems or conflicts or settings is None:
        raise BadSettings([*problems, *conflicts])
    return _derived(settings, {name: entry.source for name, entry in valid.items()})


def _problem_of(entry: SettingEntry) -> SettingProblem | None:
    setting = known().get(entry.name)
    if setting is None:
        return _unknown(entry)
    try:
        Settings.model_validate(nested({entry.name: _parsed(entry)}))
    except ValidationError as error:
        leaf = tuple(entry.name.split("."))
        details = [detail for detail in error.errors() if detail["loc"][: len(leaf)] == leaf]
        if details:
            shown = HIDDEN if setting.is_secret else repr(setting.shown(entry.value))
            reasons = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in details)
            kind = ", ".join(filter(None, (setting.kind, setting.limits)))
            fix = f"It is {kind}, by default {setting.shown(setting.default)!r}: {setting.doc}"
            return SettingProblem(entry.source, f"{shown} is not accepted ({reasons})", fix)
    return None


def _unknown(entry: SettingEntry) -> SettingProblem:
    sections = {name.rpartition(".")[0] for name in known() if "." in name}
    if entry.name in sections:
        return SettingProblem(entry.source, f"{entry.name} is a section", f"Set its parts, such as {entry.name}.NAME")
    close = get_close_matches(entry.name, known(), n=1)
    hint = f"Did you mean {close[0]}?" if close else "`lifelong config show` lists all settings"
    return SettingProblem(entry.source, f"there is no setting {entry.name!r}", hint)


def _assemble(valid: dict[str, SettingEntry]) -> tuple[Settings | None, list[SettingProblem]]:
    """Returns the settings, or the problems of values that are valid one by one and conflict with each other."""
    try:
        return Settings.model_validate(nested({name: _parsed(entry) for name, entry in valid.items()})), []
    except ValidationError as error:
        return None, [_conflict(detail["msg"], valid) for detail in error.errors()]


def _conflict(message: str, valid: dict[str, SettingEntry]) -> SettingProblem:
    """Returns the problem of the settings that `message` names, with the sources of those that were set."""
    sources = [entry.source for name, entry in valid.items() if name in message]
    return SettingProblem(", ".join(sources), message.removeprefix("Value error, "), "Change one of them")


def _derived(settings: Settings, sources: dict[str, str]) -> Loaded:
    """Fills in the settings that follow from others, unless a source sets them."""
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
    """Returns the best replicas and threads of `lifelong tune`; where one of them is set, the best with that value."""
    names = ("replicas", "threads")
    fixed = {name: getattr(settings.serving, name) for name in names if f"serving.{name}" in sources}
    winner = best(tune_table.read(settings.state_dir), **fixed)
    if winner is None:
        return {}
    return {f"serving.{name}": ("lifelong tune", getattr(winner.layout, name)) for name in names}


def _parsed(entry: SettingEntry) -> Any:
    return known()[entry.name].parse(entry.value) if isinstance(entry.value, str) else entry.value
