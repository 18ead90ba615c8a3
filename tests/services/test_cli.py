"""Tests the command line: help, exit codes, one clear message for an error, no heavy imports before they are needed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stores import SIGNING_KEY
from wire.config import StoreConfig
from wire.logs import HIDDEN
from wire.records import ControllerReport
from wire.store import Store

COMMANDS = ("up", "demo", "serve", "learn", "predict", "feedback", "forget", "versions", "doctor", "tune")
GROUPS = {
    "rollout": (
        "run",
        "status",
        "history",
        "promote",
        "rollback",
        "approve",
        "pause",
        "resume",
        "pin",
        "unpin",
    ),
    "versions": ("show", "diff"),
    "quarantine": ("list", "release"),
    "config": ("show", "check", "schema"),
    "bench": ("learn",),
}
HEAVY = ("torch", "ray", "kafka", "redis", "pydantic", "numpy", "rich", "msgspec", "avalanche", "matplotlib")


def lifelong(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    ours = {key: value for key, value in os.environ.items() if not key.startswith("LIFELONG_")}
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *words],
        capture_output=True,
        text=True,
        env=ours | environ,
        timeout=200,
    )


def test_help_names_every_command() -> None:
    done = lifelong("--help")
    assert done.returncode == 0
    assert all(f"  {command} " in done.stdout for command in (*COMMANDS, *GROUPS))
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_names_its_commands(group: str) -> None:
    done = lifelong(group, "--help")
    assert all(f"  {command} " in done.stdout for command in GROUPS[group])


def test_nothing_heavy_is_loaded_before_a_command_runs() -> None:
    code = f"import sys, services.cli; services.cli.program(); print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_use_ends_with_2() -> None:
    for words in (
        "nonsense",
        "predict",
        "rollout pin x",
        "quarantine release",
        "demo --replicas 0",
        "config check --config absent.toml",
        "config check --set seed",
    ):
        done = lifelong(*words.split())
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


def test_an_assignment_may_have_spaces_around_its_name() -> None:
    done = lifelong("config", "show", "--json", "--set", " seed = 3")
    assert (done.returncode, json.loads(done.stdout)["seed"]) == (0, 3), done.stderr


def test_bad_settings_end_with_78_and_one_message_that_names_them_all(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[bus]\npartitions = "many"\nnonsense = 1\n')
    done = lifelong(
        "config", "check", "--config", str(file), "--set", "seed=x", LIFELONG_LOG_LEVEL="loud", LIFELONG_NO_SUCH="1"
    )
    assert done.returncode == 78
    assert done.stderr.startswith("lifelong: 5 bad settings:\n")
    for name in ("bus.partitions", "bus.nonsense", "--set seed", "LIFELONG_LOG_LEVEL", "LIFELONG_NO_SUCH"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("err", "'err' is not accepted (it is none of naive, er,"),
        ("er.ace", "'er.ace' is not accepted (it is none of naive, er,"),
        ("avalanche.training.plugins.Nothing", "avalanche.training.plugins.Nothing does not import"),
        ("collections:Counter", "collections:Counter is neither a strategy nor a plugin of Avalanche"),
        ("avalanche-ewc", "avalanche-ewc needs ewc_lambda"),
    ],
)
def test_a_strategy_that_cannot_learn_ends_with_78(strategy: str, message: str) -> None:
    done = lifelong("config", "check", "--set", f"learner.slow_strategy={strategy}")
    assert (done.returncode, "Traceback" in done.stderr) == (78, False), done.stderr
    assert done.stderr.startswith("lifelong: 1 bad setting:\n")
    assert message in done.stderr


def test_a_strategy_of_avalanche_is_accepted() -> None:
    done = lifelong("config", "check", "--set", "learner.slow_strategy=avalanche-ewc(ewc_lambda=0.4)")
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_refuses_bad_settings() -> None:
    for words in ("up", "serve", "learn", "demo", "versions", "rollout run", "doctor", "tune", "bench learn"):
        done = lifelong(*words.split(), LIFELONG_SEED="x")
        assert (done.returncode, "LIFELONG_SEED" in done.stderr) == (78, True), (words, done.stderr)


def test_shown_settings_are_a_valid_file_that_says_the_same(tmp_path: Path) -> None:
    shown = lifelong("config", "show", LIFELONG_SEED="7", LIFELONG_BUS__PREFIX="x.").stdout
    file = tmp_path / "settings.toml"
    file.write_text(shown)
    again = lifelong("config", "show", "--config", str(file))
    assert (again.returncode, again.stdout) == (0, shown)


def test_the_schema_of_the_file_is_printed_with_what_an_editor_shows() -> None:
    schema = json.loads(lifelong("config", "schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["BusConfig"]["properties"]["partitions"] == {
        "title": "Partitions",
        "description": "Partitions of each topic that we create.",
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "default": 4,
    }


def test_sources_are_said_and_secrets_hidden() -> None:
    done = lifelong(
        "config", "show", "--sources", "--json", LIFELONG_SIGNING_KEY="canary" * 4, LIFELONG_STORE__URL="redis://a:pw@h"
    )
    shown = json.loads(done.stdout)
    assert shown["signing_key"] == {"value": HIDDEN, "source": "LIFELONG_SIGNING_KEY"}
    assert shown["store.url"] == {"value": f"redis://{HIDDEN}@h", "source": "LIFELONG_STORE__URL"}
    assert shown["bus.partitions"]["source"] == "default"
    assert "canary" not in done.stdout + done.stderr


def test_without_a_stack_commands_say_what_to_start(tmp_path: Path) -> None:
    for words in (
        ("versions",),
        ("rollout", "status"),
        ("predict", "hello"),
        ("feedback", "id", "label"),
        ("forget", "--subject", "a"),
    ):
        done = lifelong(*words, LIFELONG_STATE_DIR=str(tmp_path))
        assert done.returncode == 75
        assert "lifelong up" in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_an_unreachable_store_ends_with_75(tmp_path: Path) -> None:
    nobody = {
        "LIFELONG_STORE__URL": "redis://127.0.0.1:1/0",
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": "k" * 20,
    }
    done = lifelong("versions", **nobody)
    assert (done.returncode, "Traceback" in done.stderr) == (75, False), done.stderr
    assert "127.0.0.1:1" in done.stderr


@pytest.fixture
def there(store_config: StoreConfig, tmp_path: Path) -> dict[str, str]:
    """Names a server of Redis, and a broker that is not there."""
    return {
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
    }


@pytest.mark.parametrize("command", ["learn", "serve"])
def test_a_program_ends_with_78_where_the_server_may_evict_weights(
    command: str, there: dict[str, str], setting: Callable[[str, object], None]
) -> None:
    setting("maxmemory-policy", "allkeys-lru")
    done = lifelong(command, **there)
    assert (done.returncode, "Traceback" in done.stderr) == (78, False), done.stderr
    assert "allkeys-lru may evict weights; set it to noeviction" in done.stderr


def test_the_status_of_the_rollout_shows_evidence_and_what_goes_wrong(
    store: Store, raw: Any, key: Callable[..., str], there: dict[str, str]
) -> None:
    """B1, B23."""
    assert "evidence: no controller is heard of\n" in lifelong("rollout", "status", **there).stdout
    evidence = "candidate 45/50 (90.0%), stable 180/200 (90.0%)"
    store.reports.write_controller(
        ControllerReport(controller="c", time_ms=1, evidence=evidence, alarms=("collect: NotFound: it is gone",))
    )
    raw.set(key("learner"), b"no report")
    done = lifelong("rollout", "status", **there)
    assert done.returncode == 0, done.stderr
    for line in (f"evidence: {evidence}", "ALARM: collect: NotFound: it is gone", "ALARM: 1 reports cannot be read"):
        assert line in done.stdout.splitlines()
    assert json.loads(lifelong("rollout", "status", "--json", **there).stdout)["controller"]["evidence"] == evidence


def test_the_doctor_ends_with_78_and_says_what_to_do(tmp_path: Path) -> None:
    done = lifelong("doctor", "--json", LIFELONG_BUS__BOOTSTRAP_SERVERS="127.0.0.1:1", LIFELONG_STATE_DIR=str(tmp_path))
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert (done.returncode, checks["broker"]["state"]) == (78, "fail")
    assert "LIFELONG_BUS__BOOTSTRAP_SERVERS" in checks["broker"]["fix"]


@pytest.mark.slow
def test_what_tune_finds_best_is_in_force_from_then_on(tmp_path: Path) -> None:
    done = lifelong("tune", "--json", LIFELONG_STATE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["winner"] in [measured["layout"] for measured in result["table"]]
    shown = json.loads(lifelong("config", "show", "--json", LIFELONG_STATE_DIR=str(tmp_path)).stdout)
    assert {name: shown[f"serving.{name}"] for name in ("replicas", "threads")} == result["winner"]
