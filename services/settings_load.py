"""Loads the settings from a file, the environment and flags, and names every mistake with its source and its fix.

    lifelong.toml < environment LIFELONG_* < flags --> values by dotted name --> Settings, or BadSettings

pydantic-settings tells neither where a value is from nor what it passes over, so `load` merges the layers and compares.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from services.settings import PREFIX, BadSettings, Settings, described, known, variable_of
from wire.config import flat, nested
from wire.logs import HIDDEN, without_password

READ_ELSEWHERE = frozenset({"LIFELONG_KERNELS", "LIFELONG_FAILPOINT", "LIFELONG_REQUIRE"})
"""Variables with our prefix that are no settings: options of tests and benchmarks, which are read elsewhere."""


RENAMED = {
    "learner.guard": "learner.trust",
    "learner.guessed_texts": "learner.pseudo_label_texts",
    "learner.held_back_samples": "learner.holdout_samples",
    "learner.held_back_share": "learner.holdout_share",
    "learner.min_held_back": "learner.min_holdout",
    "rollout.candidate_share": "rollout.ramp",
}
"""The new names of settings and sections; an old name is a mistake that names the new one."""


class Loaded(NamedTuple):
    """Valid settings, and by dotted name the source of each value that is not a default."""

    settings: Settings
    sources: dict[str, str]

    def filled(self, source: str, values: Mapping[str, Any]) -> "Loaded":
        """Returns these settings with values, by dotted name below a section, for those that no source sets.

        The values are valid ones: they are not validated again.
        """
        new = {name: value for name, value in values.items() if name not in self.sources}
        sections = {name: replace(getattr(self.settings, name), **below) for name, below in nested(new).items()}
        return Loaded(self.settings.model_copy(update=sections), self.sources | dict.fromkeys(new, source))


def load(*, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Loaded:
    """Returns the settings in force, from `file` or ./lifelong.toml. Raises BadSettings, which names every mistake."""
    path = file or Path("lifelong.toml")
    problems: list[str] = []
    values: dict[str, Any] = {}
    try:
        if file or path.exists():
            values = flat(tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        problems.append(f"{path}: cannot be read ({error}). `lifelong config show` prints a valid file")
    sources = {name: f"{path} {name}" for name in values}
    for layer, source_of in ((_variables(environ), variable_of), (flags or {}, "--set {}".format)):
        values |= layer
        sources |= {name: source_of(name) for name in layer}
    try:
        settings = Settings(**nested(values))
    except ValidationError as error:
        problems += [_problem(detail["loc"], detail["msg"], detail["input"], sources) for detail in error.errors()]
    if problems:
        raise BadSettings(*problems)
    loaded = Loaded(settings, sources).filled("follows seed", {"learner.seed": settings.seed})
    folders = {"learner.state_dir": "learner", "serving.spool_dir": "spool"}
    below = {name: str(settings.state_dir / folder) for name, folder in folders.items()}
    return loaded.filled("follows state_dir", below)


def _variables(environ: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values of our variables by dotted name, also of those that are the name of no setting."""
    environment = EnvSettingsSource(Settings)
    ours = [name for name in environ if name.startswith(PREFIX) and name not in READ_ELSEWHERE]
    environment.env_vars = {name.lower(): environ[name] for name in ours}
    variables = flat(environment())
    read = {*map(variable_of, variables)}
    return variables | {name.removeprefix(PREFIX).lower(): environ[name] for name in ours if name not in read}


def _problem(loc: tuple[int | str, ...], message: str, found: Any, sources: Mapping[str, str]) -> str:
    name = ".".join(part for part in loc if isinstance(part, str))
    reason = message.removeprefix("Value error, ")
    below = ", ".join(source for each, source in sources.items() if each.startswith(f"{name}."))
    if name in known():
        shown = HIDDEN if known()[name]["writeOnly"] else without_password(repr(found))
        return f"{sources.get(name, below)}: {shown} is not accepted ({reason}). {name}: {described(name)}"
    if reason == message:  # it was not raised by a rule between settings
        close = [RENAMED[name]] if name in RENAMED else get_close_matches(name, known(), n=1)
        fix = f"Did you mean {close[0]}?" if close else "`lifelong config show` lists all settings"
        return f"{sources.get(name, below)}: {name} is no setting ({reason}). {fix}"
    places = ", ".join(source for each, source in sources.items() if each in known() and each in reason)
    return f"{places}: {reason}. Change one of them"
