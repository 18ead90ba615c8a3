"""Tests that every mistake in the settings is named, all in one message, each with its source and its fix."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.settings import BadSettings, Settings, environment_variable, load
from services.settings_docs import schemas

MALFORMED = {"integer": "eight", "number": "many", "boolean": "perhaps", "array": "short"}
"""A malformed text for every type of setting that has malformed texts."""

ANY_TEXT = ("labels.allow", "bus.map.answers.headers")
"""Lists of arbitrary texts have no malformed text: a text that is not JSON becomes the only member of the list."""

CHECKED = sorted(
    name for name, schema in schemas(Settings).items() if schema["type"] in MALFORMED and name not in ANY_TEXT
)


@given(st.lists(st.sampled_from(CHECKED), min_size=1, max_size=5, unique=True), st.data())
def test_every_bad_setting_is_named_in_one_message(names: list[str], data: st.DataObject) -> None:
    unknown = data.draw(
        st.lists(st.from_regex(r"[a-z]{3,8}_zz(\.[a-z]{3,8})?", fullmatch=True), unique=True, max_size=3)
    )
    flags = {}
    environ = {}
    for name in names:
        bad = MALFORMED[schemas(Settings)[name]["type"]]
        if data.draw(st.booleans()):
            flags[name] = bad
        else:
            environ[environment_variable(name)] = bad
    for name in unknown:
        environ[environment_variable(name)] = "1"
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
        ({"LIFELONG_BUS": "{}"}, "bus is not a setting (Input should be a dictionary"),
        ({"LIFELONG_SERVING__PRECISION": "{}"}, "Did you mean serving.precision.mode?"),
        ({"LIFELONG_SERVING__PRECISION__MODE": "int2"}, 'enum ["auto", "fp32", "int8", "int4"]'),
        ({"LIFELONG_SERVING__REPLICAS": "0"}, "(integer, minimum 1, maximum 1024, default 1)"),
        ({"LIFELONG_SERVING__SPOOL_BYTES": "-1"}, "minimum 0, maximum"),
        ({"LIFELONG_LEARNER__PARKED_BYTES": "-5"}, "minimum 1048576, maximum"),
        ({"LIFELONG_BUS__PARTITIONS": "0"}, "minimum 1, maximum 10000"),
        ({"LIFELONG_STORE__CHUNK_BYTES": "0"}, "store.chunk_bytes is a constant now: 4194304. Remove it"),
        ({"LIFELONG_LEARNER__SEED": "1"}, "learner.seed is a copy of seed: set seed"),
        ({"LIFELONG_BUS__HEARTBEAT_INTERVAL_MS": "6000"}, "It is bus.client.heartbeat_interval_ms now"),
        ({"LIFELONG_BUS__CLIENT": '{"heartbeat_interval_ms": 6000}'}, "must be below bus.client.session_timeout_ms"),
        (
            {"LIFELONG_BUS__CLIENT": '{"linger_ms": "soon"}'},
            "bus.client.linger_ms is 'soon', and must be a whole number",
        ),
        ({"LIFELONG_BUS__PREFIX": "two words"}, "bus.prefix must be made of letters"),
        ({"LIFELONG_SERVING__HTTP_HOST": ""}, "serving.http_host must be an address"),
        ({"LIFELONG_SERVING__MAX_QUEUE_ITEMS": "8"}, "must be at least 64, or no batch could be full"),
        ({"LIFELONG_LEARNER__HOLDOUT_SAMPLES": "9"}, "must be at least 50, or accuracy would never refuse"),
        ({"LIFELONG_STORE__TIMEOUT_MS": "5000"}, "lease_ttl_ms must be above three times store.timeout_ms"),
        ({"LIFELONG_NONSENSE_QQ": "1"}, "lifelong config show --all"),
        ({"LIFELONG_SEED__X": "1"}, "Did you mean seed?"),
        ({"LIFELONG_SEED__X": "1", "LIFELONG_SEED": "2"}, "Did you mean seed?"),
        ({"LIFELONG_SIGNINGKEY": ""}, "Did you mean signing_key?"),
        ({"LIFELONG_BUS__PARTITION": ""}, "Did you mean bus.partitions?"),
        ({"LIFELONG_LEARNER__HELD_BACK_SHARE": "0.1"}, "It is learner.holdout_share now"),
        ({"LIFELONG_LEARNER__GUARD__FLIP_ALARM": "0"}, "It is learner.trust now"),
        ({"LIFELONG_STORE_URL": "redis://host"}, "Did you mean store.url?"),
        ({"LIFELONG_BUS_": "1"}, "`lifelong config show --all` lists all settings"),
        ({"LIFELONG_SIGNING_KEY": "short"}, "Keys that sign and verify weights and plans"),
        ({"LIFELONG_SERVING__API_KEYS": '["a key"]'}, "It is serving.keys_file now"),
        ({"LIFELONG_LOG_LEVEL": "loud"}, "Input should be 'debug', 'info', 'warning' or 'error'"),
        ({"LIFELONG_ROLLOUT__NEWEST_SHARE": "5"}, "(number, minimum 0, maximum 0.5, default 0.05)"),
        ({"LIFELONG_LABELS__LOW": "1"}, "It is labels.range now"),
        ({"LIFELONG_LABELS__RANGE": "[5, 1]"}, "labels.range must be the lowest score and a higher one"),
        ({"LIFELONG_LABELS__RANGE": "5"}, "labels.range: Lowest and highest score"),
        ({"LIFELONG_SERVING__LEVEL__P99_MS": "90"}, "It is serving.promises now"),
        ({"LIFELONG_SERVING__PROMISES": '{"p99": 90}'}, "Input should be 'p99_ms', 'answers_per_s'"),
        ({"LIFELONG_SERVING__PROMISES": '{"accuracy": 88}'}, "serving.promises.accuracy must be a share"),
        ({"LIFELONG_ROLLOUT__CANDIDATE_SHARE": "0.2"}, "It is rollout.ramp now"),
        ({"LIFELONG_ROLLOUT__RAMP": "[0.5, 0.1]"}, "rollout.ramp must rise from step to step"),
        ({"LIFELONG_ROLLOUT__RAMP": "[0.97]"}, "must leave a share for the stable version"),
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
    with pytest.raises(BadSettings, match="LIFELONG_BUS: bus is not a setting"):
        load(file=None, environ={"LIFELONG_BUS": "{}"}, flags={"bus.partitions": "3"})


def test_a_section_in_the_place_of_a_setting_is_refused_and_so_is_an_unknown_one(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[seed]\nx = 1\n[nonsense]\na = 1\nb = 2\n")
    with pytest.raises(BadSettings) as caught:
        load(file=file, environ={}, flags={"log_json.x": "1"})
    assert [problem.split(" is ")[0] for problem in caught.value.problems] == [
        "--set log_json.x: {'x': '1'}",
        f"{file} seed.x: {{'x': 1}}",
        f"{file} nonsense.a, {file} nonsense.b: nonsense",
    ]


def test_an_empty_section_must_be_a_section_too(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[bsu]\n[seed]\n[bus]\n[learner.trust]\n[learner.grd]\n")
    with pytest.raises(BadSettings) as caught:
        load(file=file, environ={})
    assert [problem.split(" is ")[0] for problem in caught.value.problems] == [
        f"{file} seed: {{}}",
        f"{file} learner.grd: learner.grd",
        f"{file} bsu: bsu",
    ]
    file.write_text("[bus]\n[learner.trust]\n")
    loaded = load(
        file=file, environ={"LIFELONG_BUS__PARTITIONS": "3", "LIFELONG_LEARNER__TRUST__SOURCE_LABELS_PER_S": "7"}
    )
    assert (loaded.settings.bus.partitions, loaded.settings.learner.trust.source_labels_per_s) == (3, 7)


def test_a_bad_file_is_one_problem_among_others(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("seed = = 1")
    with pytest.raises(BadSettings) as caught:
        load(file=file, environ={"LIFELONG_SEED": "x"})
    in_file, in_environment = caught.value.problems
    assert in_file.startswith(f"{file}: cannot be read (Invalid value (at line 1, column 8)). `lifelong config show`")
    assert in_environment.startswith("LIFELONG_SEED: 'x' is not accepted")
