"""The model of all settings, which the command line loads once and passes on as plain values.

    lifelong.toml < environment LIFELONG_* < flags --load--> Settings, or BadSettings with all mistakes
    Loaded --with_tasks--> Loaded with the defaults that depend on the tasks, or BadSettings
    Settings --as_environment--> LIFELONG_... --load--> a child process has the same settings

Each room owns its section: the names, defaults, ranges and documentation are in the dataclass of the room's config.py.
`services/settings_docs.py` describes a setting, and explains why a value is not accepted.

Every secret can be read from a file, as containers and Kubernetes mount secrets:

    signing_key_file = "/run/secrets/key"  |  LIFELONG_SIGNING_KEY_FILE=/run/secrets/key  -->  signing_key

The name of a secret with the suffix `_file` is the path of a file that holds only the secret. A line end after the
secret is removed, and an empty path means that there is no file. The file counts as a value of the layer (file,
environment, flags) that names it, so that a later layer overrides it as usual.

Constants are the fields that are marked INTERNAL. They are not settings: a layer that sets one is refused. Tests and
benchmarks set constants through the variable LIFELONG_INTERNAL, a JSON object by dotted name (CONTRIBUTING.md).
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
from services.settings_docs import SUFFIX, documented_name, dotted_name, render_mistake, schemas, tables
from serving.replica_config import ReplicaSettings, inherited_settings, task_overrides
from wire.config import OrNone, flat, nested, require
from wire.keyring import parse
from wire.sections import INTERNAL_VARIABLE, constants, refused_constant
from wire.tasks import TaskNames

PREFIX = "LIFELONG_"

TUNE_FILE = "tune.json"
"""The file in `state_dir` that `lifelong tune` writes. It gives settings of the layout their defaults."""

MIN_KEY_CHARS = 16
READ_ELSEWHERE = frozenset({"LIFELONG_KERNELS", "LIFELONG_FAILPOINT", "LIFELONG_REQUIRE"})
"""Variables with our prefix that are not settings: options of tests and benchmarks, which other modules read."""

Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]

MAX_SECRET_BYTES = 64 << 10
"""Size of the largest file that is read as a secret. A usual secret has a few hundred bytes."""

FOLLOWS = {"learner.seed": "seed", "learner.lease_ttl_ms": "lease_ttl_ms", "rollout.lease_ms": "lease_ttl_ms"}
"""Maps each constant of a room that copies a setting to that setting, which all rooms share."""

FOLLOWS_STATE_DIR = "follows state_dir"
"""The origin of folders whose default is a folder below `state_dir`."""

FROZEN_ENCODER = MappingProxyType({"learner.trainable_layers": 0, "learner.deeper_layers": (0, 0)})
"""Defaults of a service with several tasks: slow rounds do not train the encoder. If a task trained some blocks, each
event would need an additional forward pass through these blocks for this task."""

OWN_FOLDERS = ("state_dir", "checkpoint_url")
"""Settings of the learner that name folders to which only one learner may write."""


def _checked_keys(keys: SecretStr) -> SecretStr:
    parse(keys.get_secret_value())
    return keys


class BadSettings(ValueError):
    """All mistakes in the settings, in one message. Each mistake names its origin, the error, and the fix."""

    def __init__(self, *problems: str) -> None:
        count = "1 bad setting" if len(problems) == 1 else f"{len(problems)} bad settings"
        super().__init__("\n  ".join([f"{count}:", *problems]))
        self.problems = problems


class Settings(ReplicaSettings):
    """The settings of Lifelong. Each section is the configuration of a room."""

    model_config = ConfigDict(validate_default=True)

    state_dir: Folder = Field(default_factory=lambda: Path(os.getenv("XDG_STATE_HOME") or "~/.local/state", "lifelong"))
    """Folder of this machine's state: servers' data, checkpoints, logs, the signing key. Default: XDG state home."""
    data: OrNone[Folder] = None
    """Folder of the data sets for `lifelong demo --data NAME`."""
    seed: Seed = LearnerConfig().seed
    """Seed of all random numbers."""
    lease_ttl_ms: LeaseTtlMs = LearnerConfig().lease_ttl_ms
    """Time after which a standby learner, or controller, replaces the leader if the leader has not renewed its lease.
    The leader renews it three times in this time."""
    signing_key: OrNone[Annotated[SecretStr, MinLen(MIN_KEY_CHARS), AfterValidator(_checked_keys)]] = None
    """Keys that sign and verify weights and plans, from `lifelong signing-keys`, or a secret of 16 characters or more.
    Generated if Lifelong starts Redis itself."""
    api_key: OrNone[SecretStr] = None
    """API key that `lifelong predict` and `feedback` send, if `serving.keys_file` requires one."""
    task: str = ""
    """The task that a program or a command works on: one of `tasks`. Empty: the default task."""

    _key_file: Path | None = PrivateAttr(None)

    learner: LearnerConfig = LearnerConfig()
    rollout: RolloutConfig = RolloutConfig()
    page: PageConfig = PageConfig()

    @property
    def readers(self) -> TaskNames:
        """The tasks of the service, and the task of this program."""
        return TaskNames(tuple(self.tasks), self.task)

    @property
    def key_file(self) -> Path | None:
        """The file that `signing_key` was read from, which programs watch for changes; None if there is no file."""
        return self._key_file

    def with_key_file(self, path: Path) -> "Settings":
        """Returns the settings with `path` as the file that `signing_key` was read from."""
        settings = self.model_copy()
        settings._key_file = path
        return settings

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        """Checks conditions between sections.

        - A slow Redis command must not cost a leader its lease.
        - A replica's report must not expire before the replica has sent its next report.
        """
        # A command is tried three times.
        longest_command_ms = 3 * self.store.timeout_ms
        gone = "must be at least twice serving.report_interval_s, or replicas seem to be gone"
        problems = [*_client_problems(self.bus.client), *self.serving.refusal.problems(self.labels.kind)]
        require((self.task in self.readers.all, f"task: {self.readers.unknown_task_message(self.task)}"))
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
    """Returns the problems of the options of the Kafka client, which is imported only if the table has options."""
    if not table:
        return []
    from wire.bus.client_options import problems

    return problems(table)


class Loaded(NamedTuple):
    """Valid settings; by dotted name, the origin of each value that is not a default, and the files of secrets."""

    settings: Settings
    origins: dict[str, str]
    files: Mapping[str, Path] = MappingProxyType({})

    def filled(self, origin: str, values: Mapping[str, Any]) -> "Loaded":
        """Returns the settings with `values` as defaults: values for settings that no layer has set.

        `values` are by dotted name, below a section. They are not validated.
        """
        new = {name: value for name, value in values.items() if name not in self.origins}
        sections = {name: _with_values(getattr(self.settings, name), below) for name, below in nested(new).items()}
        settings = self.settings.model_copy(update=sections)
        return self._replace(settings=settings, origins=self.origins | dict.fromkeys(new, origin))


def _with_values(section: Any, values: Mapping[str, Any]) -> Any:
    """Returns a section with new values; `values` are nested like the section's own sections and tables."""
    if isinstance(section, Mapping):
        return {**section, **values}
    changes = dict(values)
    for name, value in values.items():
        if isinstance(value, dict):
            changes[name] = _with_values(getattr(section, name), value)
    return replace(section, **changes)


def load(*, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Loaded:
    """Returns the settings from `file` (default: ./lifelong.toml), environment and flags, the last with priority.

    Raises BadSettings, which names every mistake.
    """
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
        (_variables(environ), _origin_of_variable),
        (flags or {}, "--set {}".format),
    ]
    values = {}
    origins: dict[str, str] = {}
    files: dict[str, Path] = {}
    fixed = known_constants()
    for given, origin_of in layers:
        layer, wrong = read_secret_files(given, secrets())
        problems += wrong
        for name in layer.keys() & fixed.keys():
            del layer[name]
            if name in FOLLOWS:
                problem = f"{name} is a copy of {FOLLOWS[name]}: set {FOLLOWS[name]}"
            else:
                problem = refused_constant(name, fixed[name])
            problems.append(f"{origin_of(name)}: {problem}")
        # A later layer overrides the values, the origins and the files of secrets of an earlier one.
        values |= layer
        origins |= {name: origin_of(name if name in given else f"{name}_file") for name in layer}
        files |= {name: Path(str(given[f"{name}_file"])) for name in layer if name not in given}
    internal, wrong = _internal(environ)
    problems += wrong
    values |= internal
    origins |= dict.fromkeys(internal, INTERNAL_VARIABLE)
    # The settings of the program's task override the settings of the service.
    own = task_overrides(values, flags or {})
    if values.get("task"):
        values = inherited_settings(values, flags or {})
    values = values | own
    origins |= {name: origins.get(f"tasks.{values['task']}.{name}", "follows task") for name in own}
    try:
        settings = Settings(**nested(values))
    except ValidationError as error:
        # Only the first error of a setting is reported: a list that is too short has one more error for each value.
        first_errors = dict[str, ErrorDetails]()
        for detail in error.errors():
            first_errors.setdefault(dotted_name(detail), detail)
        problems += [render_mistake(Settings, detail, origins) for detail in first_errors.values()]
    if problems:
        raise BadSettings(*problems)
    if "signing_key" in files:
        settings = settings.with_key_file(files["signing_key"].absolute())
    loaded = Loaded(settings, origins, files)
    for name, setting in FOLLOWS.items():
        loaded = loaded.filled(f"follows {setting}", {name: getattr(settings, setting)})
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
    """Returns the constants that LIFELONG_INTERNAL sets, by dotted name, and the problems of that variable."""
    text = environ.get(INTERNAL_VARIABLE) or "{}"
    try:
        given = flat(json.loads(text))
    except (ValueError, AttributeError) as error:
        return {}, [f'{INTERNAL_VARIABLE}: it is not a JSON object ({error}), such as {{"learner.slow_batch": 8}}']
    known = known_constants()
    problems = []
    for name in given.keys() - known.keys():
        if name in schemas(Settings):
            fix = f"It is a setting: {environment_variable(name)} sets it"
        else:
            close = get_close_matches(name, known, n=1)
            fix = f"Did you mean {close[0]}?" if close else "Fields that are marked INTERNAL are constants"
        problems.append(f"{INTERNAL_VARIABLE}: {name} is not a constant. {fix}")
    return {name: value for name, value in given.items() if name in known}, problems


def _variables(environ: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values of the variables with our prefix by dotted name, including names that no setting has."""
    below = tuple(f"{name}." for name in schemas(Settings))
    variables: dict[str, Any] = {}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in (*READ_ELSEWHERE, INTERNAL_VARIABLE):
            words = variable.removeprefix(PREFIX).lower()
            name = words.replace("__", ".")
            # `seed.x` is a mistake that the value of `seed` would hide. A name below a table is a row of the table.
            is_hidden = name.startswith(below) and documented_name(Settings, name) == name
            variables[words if is_hidden else name] = environ[variable]
    for table in tables(Settings):
        if isinstance(rows := _parse_rows(variables.get(table)), dict):
            del variables[table]
            variables |= {f"{table}.{name}": value for name, value in rows.items()}
    return variables


def _origin_of_variable(name: str) -> str:
    """Returns the name of the variable that has set a value. A row of a table was set by the variable of the table."""
    return environment_variable(documented_name(Settings, name))


def _parse_rows(text: Any) -> Any:
    """Returns the table that a variable holds as JSON, so that a flag may override each row; else `text`."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def values_by_name(settings: Settings) -> dict[str, Any]:
    """Returns every value by dotted name, secrets and constants included."""
    return flat(settings.model_dump())


def replaced(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Returns the settings with some values changed, by dotted name."""
    new = Settings(**nested({**values_by_name(settings), **changes}))
    return new.with_key_file(settings.key_file) if settings.key_file and "signing_key" not in changes else new


def environment_variable(name: str) -> str:
    """Returns the environment variable of a setting: LIFELONG_BUS__PARTITIONS for bus.partitions."""
    return PREFIX + name.replace(".", "__").upper()


def read_secret_files(layer: Mapping[str, Any], secrets: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the values of one layer with each `NAME_file` replaced by the secret in that file, and the problems.

    `layer` has values by dotted name; `secrets` are the names of the settings that are secret.
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
            values[name] = _read_secret(Path(str(path)))
        except (OSError, ValueError) as error:
            problems.append(f"{name}{SUFFIX}: {path} cannot be read ({error}). Give a file that holds only the secret")
    return values, problems


def _read_secret(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"it has more than {MAX_SECRET_BYTES} bytes")
    secret = content.decode().rstrip("\r\n")
    if not secret:
        raise ValueError("it is empty")
    return secret


def as_environment(settings: Settings) -> dict[str, str]:
    """Returns the environment variables from which a child process loads the same settings, including the secrets.

    - A table, whose names are chosen by the user, becomes one variable in JSON.
    - A secret is given by value. The variable that names its file is emptied, since the child may also inherit our
      environment.
    - The signing keys are given by their file if they have one, so that the child notices when the file changes.
    """
    values = values_by_name(settings)
    internal = {name: values.pop(name) for name in known_constants()}
    for table in tables(Settings):
        rows = [name for name in values if name.startswith(f"{table}.")]
        if rows:
            values[table] = json.dumps({name.removeprefix(f"{table}."): values.pop(name) for name in rows})
    files = {f"{environment_variable(name)}{SUFFIX.upper()}": "" for name in secrets() if values.get(name) is not None}
    if settings.key_file is not None:
        del values["signing_key"]
        files[f"{environment_variable('signing_key')}{SUFFIX.upper()}"] = str(settings.key_file)
    environ = files | {
        environment_variable(name): _as_text(value) for name, value in values.items() if value not in (None, {})
    }
    # A constant that follows a setting follows it in the child process, too, so only other values are passed on.
    usual = {**known_constants(), **{name: values[setting] for name, setting in FOLLOWS.items()}}
    if changed := {name: value for name, value in internal.items() if value != usual[name]}:
        environ[INTERNAL_VARIABLE] = json.dumps(changed)
    return environ


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps([*map(_as_text, value)]) if isinstance(value, tuple) else str(value)


def with_tasks(loaded: Loaded) -> Loaded:
    """Returns the settings with the defaults that depend on the tasks; settings without tasks are unchanged.

    - If the service has several tasks, the encoder is frozen by default.
    - The learner of each task other than the default task gets its own folders.

    Raises BadSettings if the message map of a task makes labels of another kind than the task's kind.
    """
    if problems := _map_problems(loaded.settings):
        rules = [ErrorDetails(type="value_error", loc=(), msg=f"Value error, {each}", input=None) for each in problems]
        raise BadSettings(*(render_mistake(Settings, rule, loaded.origins) for rule in rules))
    task = loaded.settings.task
    if loaded.settings.tasks and not any(name in loaded.origins for name in FROZEN_ENCODER):
        loaded = loaded.filled("follows tasks", FROZEN_ENCODER)
    if not task:
        return loaded
    learner = loaded.settings.learner
    own_folders: dict[str, Any] = {}
    for name in OWN_FOLDERS:
        folder = getattr(learner, name)
        if folder and f"tasks.{task}.learner.{name}" not in loaded.origins:
            own_folders[name] = f"{folder.rstrip('/')}-{task}"
    settings = loaded.settings.model_copy(update={"learner": replace(learner, **own_folders)})
    return loaded._replace(settings=settings)


def _map_problems(settings: Settings) -> list[str]:
    """Returns a problem for each message map that makes labels of another kind than its task's kind."""
    problems = [settings.bus.map.feedback.kind_mismatch(settings.labels, settings.task)]
    for task in settings.tasks.keys() - {settings.task}:
        own = settings.of_task(task)
        if problem := own.bus.map.feedback.kind_mismatch(own.labels, task):
            problems.append(f"tasks.{task}: {problem}")
    return [*filter(None, problems)]
