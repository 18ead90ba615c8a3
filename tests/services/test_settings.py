"""Tests of the settings: precedence, one message for all mistakes, hidden secrets, the frozen set, the schema."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from kernels import dispatch
from learner import failpoints
from services.commands.context import logs_of
from services.settings import (
    READ_ELSEWHERE,
    BadSettings,
    Settings,
    as_environment,
    described,
    known,
    load,
    replaced,
    values_of,
    variable_of,
)
from tests.required import REQUIRE
from wire.config import nested

API_KEYS = ["the key of one client", "the key of another"]

SNAPSHOT = Path(__file__).parent / "settings.txt"

MALFORMED = {"integer": "eight", "number": "many", "boolean": "perhaps", "array": "short"}
"""A malformed text for every type of setting that has malformed texts."""

NUMBERS = sorted(name for name, schema in known().items() if schema["type"] in ("integer", "number"))

CHECKED = sorted(name for name, schema in known().items() if schema["type"] in MALFORMED)


def facts(name: str) -> str:
    """Returns the type, the range and the default of a setting, which follow its documentation."""
    return described(name).removeprefix(" ".join(known()[name]["description"].split())).strip(" ()")


def frozen() -> str:
    """Returns all settings, one a line."""
    return "".join(f"{name}: {facts(name)}\n" for name in known())


def test_the_set_of_settings_is_frozen() -> None:
    assert frozen() == SNAPSHOT.read_text(), (
        "settings were added, removed or changed: say so in the change, and write the new list with "
        f"`python -m {__name__}`"
    )


def test_every_setting_is_documented() -> None:
    assert [name for name, schema in known().items() if not schema.get("description")] == []


def test_the_state_is_in_the_xdg_state_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Settings().state_dir == tmp_path / "lifelong"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    assert Settings().state_dir == Path.home() / ".local" / "state" / "lifelong"


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('seed = 1\n[bus]\npartitions = 2\nprefix = "file."\n')
    environ = {"LIFELONG_BUS__PARTITIONS": "3", "LIFELONG_SEED": "4"}
    loaded = load(file=file, environ=environ, flags={"seed": "5"})
    assert (loaded.settings.bus.prefix, loaded.settings.bus.partitions, loaded.settings.seed) == ("file.", 3, 5)
    assert loaded.sources["bus.prefix"] == f"{file} bus.prefix"
    assert loaded.sources["bus.partitions"] == "LIFELONG_BUS__PARTITIONS"
    assert loaded.sources["seed"] == "--set seed"


def test_the_learner_follows_seed_and_state_dir_unless_told_otherwise(tmp_path: Path) -> None:
    assert load(file=None, environ={"LIFELONG_SEED": "7"}).settings.learner.seed == 7
    own = load(file=None, environ={"LIFELONG_SEED": "7", "LIFELONG_LEARNER__SEED": "8"}).settings
    assert own.learner.seed == 8
    settings = load(file=None, environ={"LIFELONG_STATE_DIR": str(tmp_path)}).settings
    assert settings.learner.state_dir == str(tmp_path / "learner")


def test_a_child_reads_the_same_settings() -> None:
    environ = {
        "LIFELONG_SIGNING_KEY": "k" * 20,
        "LIFELONG_LOG_JSON": "true",
        "LIFELONG_ROLLOUT__MARGIN": "0.125",
        "LIFELONG_SERVING__API_KEYS": json.dumps(API_KEYS),
    }
    settings = load(file=None, environ=environ).settings
    assert load(file=Path(os.devnull), environ=as_environment(settings)).settings == settings


def test_every_secret_is_hidden_in_logs_and_in_what_is_shown() -> None:
    environ = {"LIFELONG_SIGNING_KEY": "k" * 20, "LIFELONG_SERVING__API_KEYS": json.dumps(API_KEYS)}
    settings = load(file=None, environ=environ).settings
    assert set(logs_of(settings).secrets) == {"k" * 20, *API_KEYS}
    for shown in (repr(settings), settings.model_dump_json()):
        assert API_KEYS[0] not in shown
        assert "k" * 20 not in shown


@given(st.lists(st.sampled_from(CHECKED), min_size=1, max_size=5, unique=True), st.data())
def test_every_bad_setting_is_named_in_one_message(names: list[str], data: st.DataObject) -> None:
    unknown = data.draw(
        st.lists(st.from_regex(r"[a-z]{3,8}_zz(\.[a-z]{3,8})?", fullmatch=True), unique=True, max_size=3)
    )
    flags = {}
    environ = {}
    for name in names:
        bad = MALFORMED[known()[name]["type"]]
        if data.draw(st.booleans()):
            flags[name] = bad
        else:
            environ[variable_of(name)] = bad
    for name in unknown:
        environ[variable_of(name)] = "1"
    with pytest.raises(BadSettings) as caught:
        load(file=None, environ=environ, flags=flags)
    assert len(caught.value.problems) == len(names) + len(unknown)
    message = str(caught.value)
    for source in [*environ, *(f"--set {name}" for name in flags)]:
        assert source in message


@pytest.mark.parametrize(
    ("environ", "fix"),
    [
        ({"LIFELONG_BUS__PARTITION": "3"}, "Did you mean bus.partitions?"),
        ({"LIFELONG_BUS": "{}"}, "bus is no setting (Input should be a dictionary"),
        ({"LIFELONG_SERVING__PRECISION": "{}"}, "Did you mean serving.precision.mode?"),
        ({"LIFELONG_SERVING__PRECISION__MODE": "int2"}, 'enum ["auto", "int8", "int4"]'),
        ({"LIFELONG_SERVING__PRECISION__MAX_ACCURACY_LOSS": "0.1"}, "brown_out_accuracy_loss must not be below"),
        ({"LIFELONG_SERVING__REPLICAS": "0"}, "(integer, minimum 1, maximum 1024, default 1)"),
        ({"LIFELONG_SERVING__DEDUPE_WINDOW": "-1"}, "minimum 1, maximum"),
        ({"LIFELONG_LEARNER__PARKED_BYTES": "-5"}, "minimum 1048576, maximum"),
        ({"LIFELONG_BUS__PARTITIONS": "0"}, "minimum 1, maximum 10000"),
        ({"LIFELONG_STORE__CHUNK_BYTES": "0"}, "minimum 65536, maximum"),
        ({"LIFELONG_BUS__HEARTBEAT_INTERVAL_MS": "6000"}, "must be below bus.session_timeout_ms"),
        ({"LIFELONG_BUS__PREFIX": "two words"}, "bus.prefix must be made of letters"),
        ({"LIFELONG_SERVING__HTTP_HOST": ""}, "serving.http_host must be an address"),
        ({"LIFELONG_SERVING__MAX_QUEUE_ITEMS": "8"}, "must be at least serving.max_batch_items"),
        ({"LIFELONG_LEARNER__HELD_BACK_SAMPLES": "9"}, "must be at least learner.min_held_back"),
        ({"LIFELONG_STORE__TIMEOUT_MS": "5000"}, "rollout.lease_ms must be above three times store.timeout_ms"),
        ({"LIFELONG_NONSENSE_QQ": "1"}, "lifelong config show"),
        ({"LIFELONG_SEED__X": "1"}, "Did you mean seed?"),
        ({"LIFELONG_SEED__X": "1", "LIFELONG_SEED": "2"}, "Did you mean seed?"),
        ({"LIFELONG_SIGNINGKEY": ""}, "Did you mean signing_key?"),
        ({"LIFELONG_BUS__PARTITION": ""}, "Did you mean bus.partitions?"),
        ({"LIFELONG_STORE_URL": "redis://host"}, "Did you mean store.url?"),
        ({"LIFELONG_BUS_": "1"}, "`lifelong config show` lists all settings"),
        ({"LIFELONG_SIGNING_KEY": "short"}, "Secret that signs weights and plans, 16 characters or more"),
        ({"LIFELONG_SERVING__API_KEYS": '["short"]'}, "Keys of 16 characters or more, as JSON list"),
        ({"LIFELONG_LOG_LEVEL": "loud"}, "Input should be 'debug', 'info', 'warning' or 'error'"),
        ({"LIFELONG_ROLLOUT__CANDIDATE_SHARE": "5"}, "(number, exclusiveMinimum 0, maximum 0.99, default 0.2)"),
    ],
)
def test_a_bad_setting_says_how_to_fix_it(environ: dict[str, str], fix: str) -> None:
    with pytest.raises(BadSettings, match=next(iter(environ))) as caught:
        load(file=None, environ=environ)
    assert fix in str(caught.value)


@pytest.mark.parametrize("name", ["er.ace", "..x:Y", "x..y:Z", "x.y", "5.Y", ":Y", "x:"])
def test_a_strategy_that_is_no_import_path_is_refused_by_every_command(name: str) -> None:
    with pytest.raises(BadSettings, match=r"is not accepted \(it is none of naive, er,"):
        load(file=None, environ={}, flags={"learner.slow_strategy": name})


def test_a_value_in_the_place_of_a_section_is_refused_whatever_the_section_has() -> None:
    with pytest.raises(BadSettings, match="LIFELONG_BUS: bus is no setting"):
        load(file=None, environ={"LIFELONG_BUS": "{}"}, flags={"bus.partitions": "3"})


def test_a_section_in_the_place_of_a_setting_is_refused_and_so_is_an_unknown_one(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[seed]\nx = 1\n[nonsense]\na = 1\nb = 2\n")
    with pytest.raises(BadSettings) as caught:
        load(file=file, environ={}, flags={"log_json.x": "1"})
    assert [problem.split(" is ")[0] for problem in caught.value.problems] == [
        f"{file} seed.x: {{'x': 1}}",
        "--set log_json.x: {'x': '1'}",
        f"{file} nonsense.a, {file} nonsense.b: nonsense",
    ]


def test_an_empty_section_must_be_a_section_too(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[bsu]\n[seed]\n[bus]\n[learner.guard]\n[learner.grd]\n")
    with pytest.raises(BadSettings) as caught:
        load(file=file, environ={})
    assert [problem.split(" is ")[0] for problem in caught.value.problems] == [
        f"{file} seed: {{}}",
        f"{file} learner.grd: learner.grd",
        f"{file} bsu: bsu",
    ]
    file.write_text("[bus]\n[learner.guard]\n")
    loaded = load(file=file, environ={"LIFELONG_BUS__PARTITIONS": "3", "LIFELONG_LEARNER__GUARD__SOURCE_BURST": "7"})
    assert (loaded.settings.bus.partitions, loaded.settings.learner.guard.source_burst) == (3, 7)


def test_the_file_may_be_a_pipe() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"seed = 3\n")
    os.close(writer)
    assert load(file=Path(f"/dev/fd/{reader}"), environ={}).settings.seed == 3
    os.close(reader)


def test_a_file_that_is_named_must_be_there_and_the_usual_one_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(file=None, environ={}).settings.seed == 0
    with pytest.raises(BadSettings, match=r"absent\.toml: cannot be read"):
        load(file=tmp_path / "absent.toml", environ={})


def test_an_optional_setting_that_is_empty_has_no_value() -> None:
    environ = {"LIFELONG_SIGNING_KEY": "", "LIFELONG_DATA": "", "LIFELONG_STORE__PREFIX": ""}
    settings = load(file=None, environ=environ).settings
    assert (settings.signing_key, settings.data, settings.store.prefix) == (None, None, "")


def bounds(name: str) -> tuple[float, float]:
    """Returns the range of a number, with its ends excluded where the schema excludes them."""
    schema = known()[name]
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    assert low is not None and high is not None, name
    return low, high


def inside(name: str) -> st.SearchStrategy[float]:
    """Returns a strategy for values in the range of the setting, its ends among them."""
    schema = known()[name]
    low, high = bounds(name)
    if schema["type"] == "integer":
        return st.integers(int(low), int(high))
    return st.floats(low, high, exclude_min="minimum" not in schema, exclude_max="maximum" not in schema)


def test_every_number_has_a_range_with_its_default_in_it() -> None:
    for name in NUMBERS:
        assert load(file=None, environ={}, flags={name: known()[name]["default"]}), bounds(name)


@given(st.sampled_from(NUMBERS), st.data())
def test_what_is_in_its_range_is_taken_unless_it_contradicts_another(name: str, data: st.DataObject) -> None:
    value = data.draw(inside(name))
    try:
        loaded = values_of(load(file=None, environ={}, flags={name: str(value)}).settings)[name]
    except BadSettings as error:
        (problem,) = error.problems
        assert name in problem and "must" in problem
    else:
        assert loaded == value
        assert type(loaded) is (int if known()[name]["type"] == "integer" else float)


@given(st.sampled_from(NUMBERS), st.data())
def test_what_is_outside_is_refused_with_the_range(name: str, data: st.DataObject) -> None:
    low, high = bounds(name)
    no_numbers = [] if known()[name]["type"] == "integer" else ["nan", "inf"]
    beyond = data.draw(st.sampled_from([low - 1, high + 1, *no_numbers]))
    with pytest.raises(BadSettings, match=re.escape(facts(name))):
        load(file=None, environ={}, flags={name: str(beyond)})


def test_a_bad_file_is_one_problem_among_others(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("seed = = 1")
    with pytest.raises(BadSettings) as caught:
        load(file=file, environ={"LIFELONG_SEED": "x"})
    in_file, in_environment = caught.value.problems
    assert in_file.startswith(f"{file}: cannot be read (Invalid value (at line 1, column 8)). `lifelong config show`")
    assert in_environment.startswith("LIFELONG_SEED: 'x' is not accepted")


def test_variables_of_other_readers_are_no_settings() -> None:
    assert {dispatch.VARIABLE, failpoints.VARIABLE, REQUIRE} == READ_ELSEWHERE
    load(file=None, environ={**dict.fromkeys(READ_ELSEWHERE, "library"), "PATH": "/bin"})


def test_nothing_secret_is_shown() -> None:
    canary = "canary"
    environ = {"LIFELONG_SIGNING_KEY": canary, "LIFELONG_BUS__PARTITIONS": "x"}
    with pytest.raises(BadSettings) as caught:
        load(file=None, environ=environ, flags={"store.timeout_ms": f"redis://me:{canary}@host"})
    assert canary not in str(caught.value)
    settings = Settings(signing_key=SecretStr("canary" * 4))
    assert canary not in repr(settings)


def test_replaced_changes_what_is_named_and_nothing_else() -> None:
    settings = Settings()
    changes = {
        "store.url": "redis://host",
        "bus.prefix": "p.",
        "seed": 3,
        "bus.partitions": 9,
        "serving.precision.mode": "int4",
    }
    changed = values_of(replaced(settings, changes))
    assert changed == values_of(settings) | changes


def test_the_schema_is_valid_and_every_default_satisfies_it() -> None:
    schema = Settings.model_json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    defaults = Settings().model_dump(mode="json")
    assert [error.message for error in validator.iter_errors(defaults)] == []
    assert known().keys() == values_of(Settings()).keys()


def test_the_schema_refuses_what_loading_refuses() -> None:
    validator = Draft202012Validator(Settings.model_json_schema())
    wrong: list[dict[str, Any]] = [{"no_such": 1}, {"bus": {"partition": 3}}, {"learner": {"guard": {"no_such": 1}}}]
    wrong += [nested({name: bounds(name)[1] + 1}) for name in NUMBERS]
    wrong += [{"log_level": "loud"}, {"signing_key": "short"}, {"serving": {"api_keys": ["short"]}}, {"bus": 3}]
    for tree in wrong:
        assert not validator.is_valid(tree), tree


def test_the_schema_has_no_secret_of_its_own() -> None:
    secrets = {name: schema["default"] for name, schema in known().items() if schema["writeOnly"]}
    assert secrets == {"signing_key": None, "bus.sasl_password": None, "serving.api_keys": []}


if __name__ == "__main__":
    SNAPSHOT.write_text(frozen())
