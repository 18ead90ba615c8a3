"""Every setting of every process, in one model; loaded once, at the command line, and passed on as plain values.

    lifelong.toml < environment LIFELONG_* < flags --load--> Settings, or BadSettings with all mistakes
    Loaded --with_tasks--> Loaded, in which what follows from several tasks is filled in, or BadSettings
    Settings --as_environment--> LIFELONG_... --load--> a child process has the same settings

The rooms own their sections: names, defaults, ranges and documentation are in the dataclass of each room's config.py.
`services/settings_docs.py` says what a setting means, and what is wrong with a value.

Secrets from files have one rule for all of them, as containers and Kubernetes mount them:

    signing_key_file = "/run/secrets/key"  |  LIFELONG_SIGNING_KEY_FILE=/run/secrets/key  -->  signing_key

The name of a secret with `_file` behind it is the path of a file that holds the secret alone; a line end behind it is
none of it, and an empty path names none. It stands for the secret in its own layer (file, environment, flags), so that
a later layer wins as always.

Constants, the fields that are marked INTERNAL, are no settings: each layer is refused one. Tests and benchmarks set
them by the variable LIFELONG_INTERNAL, a table of JSON by dotted name, which names constants alone (CONTRIBUTING.md).
"""

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from annotated_types import MinLen
from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from learner.config import LearnerConfig, LeaseTtlMs, Seed
from rollout.config import RolloutConfig
from services.page.config import PageConfig
from services.settings_docs import SUFFIX, mistake, name_of, schemas, setting_of, tables
from serving.replica_config import ReplicaSettings, inherited, own_rows
from wire.config import OrNone, flat, nested, require
from wire.keyring import parse
from wire.sections import INTERNAL_VARIABLE, constants, refused_constant
from wire.tasks import TaskNames

PREFIX = "LIFELONG_"

TUNE_FILE = "tune.json"
"""What `lifelong tune` leaves in `state_dir`: from then on it fills in settings."""

MIN_KEY_CHARS = 16
READ_ELSEWHERE = frozenset({"LIFELONG_KERNELS", "LIFELONG_FAILPOINT", "LIFELONG_REQUIRE"})
"""Variables with our prefix that are no settings: options of tests and benchmarks, which are read elsewhere."""

Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]

MAX_SECRET_BYTES = 64 << 10
"""Largest file that is read: one of a secret has a few hundred bytes."""

FOLLOWS = {"learner.seed": "seed", "learner.lease_ttl_ms": "lease_ttl_ms", "rollout.lease_ms": "lease_ttl_ms"}
"""Constants of a room that are what one setting of all rooms says, by the constant's name."""

FOLLOWS_STATE_DIR = "follows state_dir"
"""The origin of the folders that are below `state_dir`, wherever that is."""

TRAINED = MappingProxyType({"learner.trainable_layers": 0, "learner.deeper_layers": (0, 0)})
"""The settings of what slow rounds train of the encoder. Blocks that one task trains are computed for it alone, at
each event."""

PLACES = ("state_dir", "checkpoint_url")
"""The settings of the learner that name what only one learner writes to."""


def _checked_keys(keys: SecretStr) -> SecretStr:
    parse(keys.get_secret_value())
    return keys


class BadSettings(ValueError):
    """All mistakes in the settings, in one message. Each names its origin, what is wrong, and the fix."""

    def __init__(self, *problems: str) -> None:
        count = "1 bad setting" if len(problems) == 1 else f"{len(problems)} bad settings"
        super().__init__("\n  ".join([f"{count}:", *problems]))
        self.problems = problems


class Settings(ReplicaSettings):
    """The settings of Lifelong. The sections are the configurations of the rooms."""

    model_config = ConfigDict(validate_default=True)

    state_dir: Folder = Field(default_factory=lambda: Path(os.getenv("XDG_STATE_HOME") or "~/.local/state", "lifelong"))
    """Folder of this machine's state: servers' data, checkpoints, logs, the signing key. Default: XDG state home."""
    data: OrNone[Folder] = None
    """Folder of the data sets that `lifelong demo --data NAME` looks in."""
    seed: Seed = LearnerConfig().seed
    """Seed of all random numbers."""
    lease_ttl_ms: LeaseTtlMs = LearnerConfig().lease_ttl_ms
    """A leading learner, or controller, that does not renew its lease for this long is replaced by a waiting one. It
    renews the lease three times in this time."""
    signing_key: OrNone[Annotated[SecretStr, MinLen(MIN_KEY_CHARS), AfterValidator(_checked_keys)]] = None
    """Keys that sign and verify weights and plans, from `lifelong signing-keys`, or a secret of 16 characters or more.
    Generated where Redis is started by us."""
    api_key: OrNone[SecretStr] = None
    """API key that `lifelong predict` and `feedback` send, where `serving.keys_file` requires one."""
    task: str = ""
    """The task that a program, or a command, is about: one of `tasks`. Empty: the default one."""

    _key_file: Path | None = PrivateAttr(None)

    learner: LearnerConfig = LearnerConfig()
    rollout: RolloutConfig = RolloutConfig()
    page: PageConfig = PageConfig()

    @property
    def readers(self) -> TaskNames:
        """The tasks of the service, and the one that these settings are about."""
        return TaskNames(tuple(self.tasks), self.task)

    @property
    def key_file(self) -> Path | None:
        """The file that `signing_key` was read from, which is followed; None where it was given in another way."""
        return self._key_file

    def with_key_file(self, path: Path) -> "Settings":
        """Returns the settings with keys that were read from a file."""
        settings = self.model_copy()
        settings._key_file = path
        return settings

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        """Checks conditions between sections: a slow command must not lose a lease, nor a late report expire."""
        longest_command_ms = 3 * self.store.timeout_ms  # it is tried three times
        gone = "must be at least twice serving.report_interval_s, or replicas seem to be gone"
        problems = [*_client_problems(self.bus.client), *self.serving.refusal.problems(self.labels.kind)]
        require((self.task in self.readers.all, f"task: {self.readers.why_unknown(self.task)}"))
        require(
            *((False, problem) for problem in problems),
            (
                self.lease_ttl_ms > longest_command_ms,
                "lease_ttl_ms must be above three times store.timeout_ms, or a slow reply loses the lease",
            ),
            (2_000 * self.serving.report_interval_s <= self.store.report_ttl_ms, f"store.report_ttl_ms {gone}"),
        )
        return self


def _client_problems(table: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with options of the Kafka client, which is imported only where there are any."""
    if not table:
        return []
    from wire.bus.client_options import problems

    return problems(table)


class Loaded(NamedTuple):
    """Valid settings; by dotted name the origin of each value that is no default, and the file of a secret."""

    settings: Settings
    origins: dict[str, str]
    files: Mapping[str, Path] = MappingProxyType({})

    def filled(self, origin: str, values: Mapping[str, Any]) -> "Loaded":
        """Returns these settings with values, by dotted name below a section, for those that nothing sets.

        The values are valid ones: they are not validated again.
        """
        new = {name: value for name, value in values.items() if name not in self.origins}
        sections = {name: _with_values(getattr(self.settings, name), below) for name, below in nested(new).items()}
        settings = self.settings.model_copy(update=sections)
        return self._replace(settings=settings, origins=self.origins | dict.fromkeys(new, origin))


def _with_values(section: Any, values: Mapping[str, Any]) -> Any:
    """Returns a section, which may have others and tables below it, with these values."""
    if isinstance(section, Mapping):
        return {**section, **values}
    below = {name: value for name, value in values.items() if isinstance(value, dict)}
    parts = {name: _with_values(getattr(section, name), value) for name, value in below.items()}
    return replace(section, **{**values, **parts})


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
    layers: list[tuple[Mapping[str, Any], Callable[[str], str]]] = [
        (values, f"{path} {{}}".format),
        (_variables(environ), _variable_with),
        (flags or {}, "--set {}".format),
    ]
    values = {}
    origins: dict[str, str] = {}
    files: dict[str, Path] = {}
    fixed = known_constants()
    for given, origin_of in layers:
        layer, wrong = resolved(given, secrets())
        problems += wrong
        for name in layer.keys() & fixed.keys():
            del layer[name]
            followed = f"{name} is what {FOLLOWS[name]} is: set that" if name in FOLLOWS else ""
            problems.append(f"{origin_of(name)}: {followed or refused_constant(name, fixed[name])}")
        values |= layer
        origins |= {name: origin_of(name if name in given else f"{name}_file") for name in layer}
        files |= {name: Path(str(given[f"{name}_file"])) for name in layer if name not in given}
    internal, wrong = _internal(environ)
    problems += wrong
    values |= internal
    origins |= dict.fromkeys(internal, INTERNAL_VARIABLE)
    own = own_rows(values, flags or {})
    values = (inherited(values, flags or {}) if values.get("task") else values) | own
    origins |= {name: origins.get(f"tasks.{values['task']}.{name}", "follows task") for name in own}
    try:
        settings = Settings(**nested(values))
    except ValidationError as error:
        first_in = dict[str, ErrorDetails]()
        for detail in error.errors():  # a list that is too short has a mistake for each value, too
            first_in.setdefault(name_of(detail), detail)
        problems += [mistake(Settings, detail, origins) for detail in first_in.values()]
    if problems:
        raise BadSettings(*problems)
    if "signing_key" in files:
        settings = settings.with_key_file(files["signing_key"].absolute())
    loaded = Loaded(settings, origins, files)
    for name, leader in FOLLOWS.items():
        loaded = loaded.filled(f"follows {leader}", {name: getattr(settings, leader)})
    folders = {"learner.state_dir": "learner", "serving.spool_dir": "spool"}
    below = {name: str(settings.state_dir / folder) for name, folder in folders.items()}
    return loaded.filled(FOLLOWS_STATE_DIR, below)


def secrets() -> list[str]:
    """Returns the names of the settings that are secret."""
    return [name for name, schema in schemas(Settings).items() if schema["writeOnly"]]


@cache
def known_constants() -> Mapping[str, Any]:
    """Returns every constant by dotted name."""
    return constants(dict(Settings()))


def _internal(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the constants that LIFELONG_INTERNAL sets, by dotted name, and what is wrong with it."""
    text = environ.get(INTERNAL_VARIABLE) or "{}"
    try:
        given = flat(json.loads(text))
    except (ValueError, AttributeError) as error:
        return {}, [f'{INTERNAL_VARIABLE}: it is no table of JSON ({error}), such as {{"learner.slow_batch": 8}}']
    known = known_constants()
    problems = []
    for name in given.keys() - known.keys():
        if name in schemas(Settings):
            fix = f"It is a setting: {variable_of(name)} sets it"
        else:
            close = get_close_matches(name, known, n=1)
            fix = f"Did you mean {close[0]}?" if close else "Fields that are marked INTERNAL are constants"
        problems.append(f"{INTERNAL_VARIABLE}: {name} is no constant. {fix}")
    return {name: value for name, value in given.items() if name in known}, problems


def _variables(environ: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values of our variables by dotted name, also of those that are the name of no setting."""
    below = tuple(f"{name}." for name in schemas(Settings))
    variables: dict[str, Any] = {}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in (*READ_ELSEWHERE, INTERNAL_VARIABLE):
            words = variable.removeprefix(PREFIX).lower()
            name = words.replace("__", ".")
            # The value of `seed` would hide a wrong `seed.x`; below a table are its rows.
            is_hidden = name.startswith(below) and setting_of(Settings, name) == name
            variables[words if is_hidden else name] = environ[variable]
    for table in tables(Settings):
        if isinstance(rows := _rows_in(variables.get(table)), dict):
            del variables[table]
            variables |= {f"{table}.{name}": value for name, value in rows.items()}
    return variables


def _variable_with(name: str) -> str:
    """Returns the variable that has set a value: that of the table, for a row of one."""
    return variable_of(setting_of(Settings, name))


def _rows_in(text: Any) -> Any:
    """Returns the table that a variable holds as JSON, so that each row of it may be set again by a flag."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def values_of(settings: Settings) -> dict[str, Any]:
    """Returns every value by dotted name, secrets and constants included."""
    return flat(settings.model_dump())


def replaced(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Returns the settings with some values changed, by dotted name."""
    new = Settings(**nested({**values_of(settings), **changes}))
    return new.with_key_file(settings.key_file) if settings.key_file and "signing_key" not in changes else new


def variable_of(name: str) -> str:
    """Returns the environment variable of a setting: LIFELONG_BUS__PARTITIONS of bus.partitions."""
    return PREFIX + name.replace(".", "__").upper()


def resolved(layer: Mapping[str, Any], secrets: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the values of one layer with the secrets that its files hold, and what is wrong with them.

    `layer` has values by dotted name, `secrets` the names of the settings that are secret.
    """
    values = dict(layer)
    problems: list[str] = []
    for name in secrets:
        if not (path := values.pop(f"{name}{SUFFIX}", "")):
            continue
        if name in values:
            problems.append(f"{name} and {name}{SUFFIX}: only one of them can be the secret. Remove one")
            continue
        try:
            values[name] = _secret_in(Path(str(path)))
        except (OSError, ValueError) as error:
            problems.append(f"{name}{SUFFIX}: {path} cannot be read ({error}). Give a file that holds the secret alone")
    return values, problems


def _secret_in(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"it has more than {MAX_SECRET_BYTES} bytes")
    secret = content.decode().rstrip("\r\n")
    if not secret:
        raise ValueError("it is empty")
    return secret


def as_environment(settings: Settings) -> dict[str, str]:
    """Returns the variables from which a child process loads the same settings, the keys included.

    A table, whose names are the user's, is one variable of JSON. Variables of ours that name the file of a secret are
    empty: the child has the secret itself, and may have our environment as well. The keys that sign have the name of
    their file, where they have one, so that the child follows it.
    """
    values = values_of(settings)
    internal = {name: values.pop(name) for name in known_constants()}
    for table in tables(Settings):
        rows = [name for name in values if name.startswith(f"{table}.")]
        if rows:
            values[table] = json.dumps({name.removeprefix(f"{table}."): values.pop(name) for name in rows})
    files = {f"{variable_of(name)}{SUFFIX.upper()}": "" for name in secrets() if values.get(name) is not None}
    if settings.key_file is not None:
        del values["signing_key"]
        files[f"{variable_of('signing_key')}{SUFFIX.upper()}"] = str(settings.key_file)
    environ = files | {variable_of(name): _as_text(value) for name, value in values.items() if value not in (None, {})}
    usual = {**known_constants(), **{name: values[leader] for name, leader in FOLLOWS.items()}}
    if changed := {name: value for name, value in internal.items() if value != usual[name]}:
        environ[INTERNAL_VARIABLE] = json.dumps(changed)
    return environ


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps([*map(_as_text, value)]) if isinstance(value, tuple) else str(value)


def with_tasks(loaded: Loaded) -> Loaded:
    """Returns the settings of a service with several tasks; those of a service with one are as they were.

    Raises BadSettings where a map does not fit its task.
    """
    if problems := _misfits(loaded.settings):
        rules = [ErrorDetails(type="value_error", loc=(), msg=f"Value error, {each}", input=None) for each in problems]
        raise BadSettings(*(mistake(Settings, rule, loaded.origins) for rule in rules))
    task = loaded.settings.task
    if loaded.settings.tasks and not any(name in loaded.origins for name in TRAINED):
        loaded = loaded.filled("follows tasks", TRAINED)
    if not task:
        return loaded
    learner = loaded.settings.learner
    places = {name: f"{place.rstrip('/')}-{task}" for name in PLACES if (place := getattr(learner, name))}
    own: dict[str, Any] = {}
    for name, place in places.items():
        if f"tasks.{task}.learner.{name}" not in loaded.origins:
            own[name] = place
    settings = loaded.settings.model_copy(update={"learner": replace(learner, **own)})
    return loaded._replace(settings=settings)


def _misfits(settings: Settings) -> list[str]:
    """Returns what is wrong where the map of a task makes labels of another kind than the task has."""
    problems = [settings.bus.map.feedback.misfit(settings.labels, settings.task)]
    for task in settings.tasks.keys() - {settings.task}:
        own = settings.of_task(task)
        if problem := own.bus.map.feedback.misfit(own.labels, task):
            problems.append(f"tasks.{task}: {problem}")
    return [*filter(None, problems)]
