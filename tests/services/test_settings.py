"""Tests how settings are loaded: precedence, defaults that follow other settings, child processes, hidden secrets."""

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from kernels import dispatch
from learner import failpoints
from services.settings import (
    READ_ELSEWHERE,
    BadSettings,
    Settings,
    as_environment,
    load,
    replaced,
    values_by_name,
)
from tests.required import REQUIRE
from wire.sections import INTERNAL_VARIABLE

API_KEY = "the key of a client"


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
    assert loaded.origins["bus.prefix"] == f"{file} bus.prefix"
    assert loaded.origins["bus.partitions"] == "LIFELONG_BUS__PARTITIONS"
    assert loaded.origins["seed"] == "--set seed"


def test_the_learner_follows_seed_and_state_dir_unless_told_otherwise(tmp_path: Path) -> None:
    assert load(file=None, environ={"LIFELONG_SEED": "7"}).settings.learner.seed == 7
    leases = load(file=None, environ={"LIFELONG_LEASE_TTL_MS": "7000"}).settings
    assert (leases.learner.lease_ttl_ms, leases.rollout.lease_ms) == (7_000, 7_000)
    settings = load(file=None, environ={"LIFELONG_STATE_DIR": str(tmp_path)}).settings
    assert settings.learner.state_dir == str(tmp_path / "learner")


def test_every_secret_is_hidden_in_logs_and_in_what_is_shown() -> None:
    environ = {"LIFELONG_SIGNING_KEY": "k" * 20, "LIFELONG_API_KEY": API_KEY}
    settings = load(file=None, environ=environ).settings
    assert set(settings.logs.secrets) == {"k" * 20, API_KEY}
    for shown in (repr(settings), settings.model_dump_json()):
        assert API_KEY not in shown
        assert "k" * 20 not in shown


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
    changed = values_by_name(replaced(settings, changes))
    assert changed == values_by_name(settings) | changes


def test_constants_are_set_by_one_variable_alone_and_a_child_has_them_too(tmp_path: Path) -> None:
    environ = {INTERNAL_VARIABLE: '{"learner.slow_batch": 8, "serving.precision.min_gain": 0.5}', "LIFELONG_SEED": "7"}
    loaded = load(file=None, environ=environ)
    assert (loaded.settings.learner.slow_batch, loaded.settings.serving.precision.min_gain) == (8, 0.5)
    assert loaded.origins["learner.slow_batch"] == INTERNAL_VARIABLE
    child = as_environment(loaded.settings)
    assert json.loads(child[INTERNAL_VARIABLE]) == json.loads(environ[INTERNAL_VARIABLE])
    assert load(file=Path(os.devnull), environ=child).settings == loaded.settings
    assert INTERNAL_VARIABLE not in as_environment(load(file=None, environ={"LIFELONG_SEED": "7"}).settings)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slow_batch=8", "LIFELONG_INTERNAL: it is not a JSON object"),
        ("[8]", "LIFELONG_INTERNAL: it is not a JSON object"),
        ('{"serving.replicas": 2}', "serving.replicas is not a constant. It is a setting: LIFELONG_SERVING__REPLICAS"),
        ('{"learner.slow_bach": 8}', "learner.slow_bach is not a constant. Did you mean learner.slow_batch?"),
        ('{"learner.slow_batch": 1}', "LIFELONG_INTERNAL: learner.slow_batch: 1 is not accepted"),
    ],
)
def test_what_is_no_constant_or_no_value_of_one_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadSettings) as caught:
        load(file=None, environ={INTERNAL_VARIABLE: text})
    assert told in str(caught.value)


def test_no_layer_and_no_task_sets_a_constant(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[learner]\nslow_batch = 8\n[tasks.urgency.learner]\nslow_batch = 8\n")
    environ = {"LIFELONG_STORE__CHUNK_BYTES": "65536"}
    with pytest.raises(BadSettings) as caught:
        load(file=file, environ=environ, flags={"rollout.niceness": 1})
    message = str(caught.value)
    for told in (
        f"{file} learner.slow_batch: learner.slow_batch is a constant now: 32",
        "LIFELONG_STORE__CHUNK_BYTES: store.chunk_bytes is a constant now",
        "--set rollout.niceness: rollout.niceness is a constant now: 10",
        "tasks.urgency.learner.slow_batch is a constant now",
    ):
        assert told in message
