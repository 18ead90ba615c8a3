"""Where settings are read from: a TOML file, the environment, flags. Each gives entries, none looks at meaning.

lifelong.toml            [bus] partitions = 8           SettingEntry("bus.partitions", 8, "lifelong.toml")
environment              LIFELONG_BUS__PARTITIONS=8     SettingEntry("bus.partitions", "8", "LIFELONG_BUS__PARTITIONS")
flag                     --set bus.partitions=8         SettingEntry("bus.partitions", "8", "--set bus.partitions")
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "LIFELONG_"
DEFAULT_FILE = Path("lifelong.toml")

REQUIRE = "LIFELONG_REQUIRE"
"""What the tests must not be skipped for lack of."""

READ_ELSEWHERE = frozenset({"LIFELONG_KERNELS", "LIFELONG_FAILPOINT", REQUIRE})
"""Variables with our prefix that are no settings: a choice for tests and measurements, read where it is made."""


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """One value that somebody set: its dotted name, the value as it was found, and where."""

    name: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One thing that is wrong with the settings, and the remedy."""

    source: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.source}: {self.message}. {self.fix}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source gave."""

    entries: list[SettingEntry] = field(default_factory=list)
    problems: list[SettingProblem] = field(default_factory=list)


class BadSettings(ValueError):
    """Everything that is wrong with the settings, in one message."""

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        count = "1 bad setting" if len(problems) == 1 else f"{len(problems)} bad settings"
        super().__init__("\n".join([f"{count}:", *(f"  {problem}" for problem in problems)]))
        self.problems = tuple(problems)


def variable_of(name: str) -> str:
    """The environment variable of a setting.

    >>> variable_of("bus.partitions")
    'LIFELONG_BUS__PARTITIONS'
    """
    return PREFIX + name.replace(".", "__").upper()


def read_file(path: Path | None) -> Reading:
    """The entries of `path`, or of ./lifelong.toml where there is one."""
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
    """The entries of every variable with our prefix."""
    ours = sorted(key for key in environ if key.startswith(PREFIX) and key not in READ_ELSEWHERE)
    return Reading(
        [SettingEntry(key.removeprefix(PREFIX).lower().replace("__", "."), environ[key], key) for key in ours]
    )


def read_flags(assignments: Iterable[str]) -> Reading:
    """The entries of `--set NAME=VALUE`."""
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
