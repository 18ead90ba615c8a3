"""The sources of settings: a TOML file, the environment, flags. Each is read into entries, which are not validated yet.

lifelong.toml   [bus] partitions = 8         SettingEntry("bus.partitions", 8, "lifelong.toml bus.partitions")
environment     LIFELONG_BUS__PARTITIONS=8   SettingEntry("bus.partitions", "8", "LIFELONG_BUS__PARTITIONS")
flag            --set bus.partitions=8       SettingEntry("bus.partitions", "8", "--set bus.partitions")
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "LIFELONG_"
DEFAULT_FILE = Path("lifelong.toml")

REQUIRE = "LIFELONG_REQUIRE"
"""Variable with the requirements for whose lack no test may be skipped."""

READ_ELSEWHERE = frozenset({"LIFELONG_KERNELS", "LIFELONG_FAILPOINT", REQUIRE})
"""Variables with our prefix that are no settings: options of tests and benchmarks, which are read elsewhere."""


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """One value that a source sets: its dotted name, the value as it was read, and the source."""

    name: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One mistake in the settings, and the remedy."""

    source: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.source}: {self.message}. {self.fix}"


@dataclass(frozen=True, slots=True)
class Reading:
    """The entries and problems of one source."""

    entries: list[SettingEntry] = field(default_factory=list)
    problems: list[SettingProblem] = field(default_factory=list)


class BadSettings(ValueError):
    """All mistakes in the settings, in one message."""

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        count = "1 bad setting" if len(problems) == 1 else f"{len(problems)} bad settings"
        super().__init__("\n".join([f"{count}:", *(f"  {problem}" for problem in problems)]))
        self.problems = tuple(problems)


def variable_of(name: str) -> str:
    """Returns the environment variable of a setting.

    >>> variable_of("bus.partitions")
    'LIFELONG_BUS__PARTITIONS'
    """
    return PREFIX + name.replace(".", "__").upper()


def read_file(path: Path | None) -> Reading:
    """Reads `path`, or ./lifelong.toml where it exists."""
    chosen = path or DEFAULT_FILE
    if path is None and not chosen.exists():
        return Reading()
    try:
        content = tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        fix = "Name a file that can be read with --config"
        return Reading(problems=[SettingProblem(str(chosen), message, fix)])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"is not TOML ({error})"
        fix = "`lifelong config show` prints a valid file"
        return Reading(problems=[SettingProblem(str(chosen), message, fix)])
    return Reading([SettingEntry(name, value, f"{chosen} {name}") for name, value in _flat(content)])


def read_environment(environ: Mapping[str, str]) -> Reading:
    """Reads every variable with our prefix."""
    names = sorted(key for key in environ if key.startswith(PREFIX) and key not in READ_ELSEWHERE)
    return Reading(
        [SettingEntry(key.removeprefix(PREFIX).lower().replace("__", "."), environ[key], key) for key in names]
    )


def read_flags(assignments: Iterable[str]) -> Reading:
    """Reads the assignments `--set NAME=VALUE`."""
    reading = Reading()
    for text in assignments:
        name, equals, value = text.partition("=")
        if equals:
            reading.entries.append(SettingEntry(name.strip(), value, f"--set {name.strip()}"))
        else:
            fix = "Write --set NAME=VALUE, for example --set bus.partitions=8"
            reading.problems.append(SettingProblem(f"--set {text}", "has no value", fix))
    return reading


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value
