"""Tests the command line: help, exit codes, one clear message for an error, no heavy imports before they are needed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cli import COMMANDS as COMMANDS_BY_NAME
from services.cli import GROUPS as HEADINGS
from tests.services.command_line import PRELOADED, lifelong

COMMANDS = ("up", "demo", "serve", "learn", "predict", "feedback", "pretrain", "versions", "doctor", "tune", "backup")
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
    "topics": ("create", "describe"),
    "keys": ("create", "list", "revoke"),
    "signing-keys": ("new", "list", "rotate", "retire", "public"),
    "encoder": ("check",),
    "model": ("show", "convert", "share", "prune", "distill", "quantize", "export"),
    "labels": ("list", "add", "rename", "merge", "split", "retire"),
    "quarantine": ("list", "release"),
    "config": ("show", "check", "schema"),
    "bench": ("learn",),
}
HEAVY = ("torch", "ray", "kafka", "redis", "pydantic", "numpy", "rich", "msgspec", "avalanche", "matplotlib")


def test_help_names_every_command() -> None:
    done = lifelong("--help")
    assert done.returncode == 0
    assert all(f"  {command} " in done.stdout for command in (*COMMANDS, *GROUPS))
    assert "\x1b" not in done.stdout


def test_help_has_the_commands_under_headings() -> None:
    lines = lifelong("--help").stdout.splitlines()
    headings = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options", *HEADINGS]
    names = [line.split()[0] for line in lines[lines.index(f"{headings[1]}:") :] if line.startswith("  ")]
    assert names == [*COMMANDS_BY_NAME]


@pytest.mark.parametrize(
    ("shell", "typed"),
    [
        ("bash", {"COMP_WORDS": "lifelong rol", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "lifelong rol"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "lifelong rol", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_a_shell_completes_the_names_of_commands(shell: str, typed: dict[str, str]) -> None:
    script = Path(sys.executable).with_name("lifelong")
    env = {**os.environ, **typed, "_LIFELONG_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([script], capture_output=True, text=True, env=env)
    assert "rollout" in done.stdout and "predict" not in done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_names_its_commands(group: str) -> None:
    done = lifelong(group, "--help")
    assert all(f"  {command} " in done.stdout for command in GROUPS[group])


def test_nothing_heavy_is_loaded_before_a_command_runs() -> None:
    code = f"import sys, services.cli; services.cli.program(); print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_module_of_the_command_is_loaded() -> None:
    code = "import sys, services.cli as cli; cli.program('learn'); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'services.commands.run'" in done.stdout
    others = {module for module, _ in COMMANDS_BY_NAME.values() if module != "services.commands.run"}
    assert not [module for module in others if f"'{module}'" in done.stdout]


def test_what_commands_of_tests_are_forked_from_has_no_torch() -> None:
    code = f"import sys, {', '.join(PRELOADED)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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


def test_every_command_refuses_bad_settings() -> None:
    for words in ("up", "serve", "learn", "demo", "versions", "rollout run", "doctor", "tune", "bench learn"):
        done = lifelong(*words.split(), LIFELONG_SEED="x")
        assert (done.returncode, "LIFELONG_SEED" in done.stderr) == (78, True), (words, done.stderr)


@pytest.mark.parametrize("command", ["learn", "serve"])
def test_a_program_ends_with_78_where_the_server_may_evict_weights(
    command: str, there: dict[str, str], setting: Callable[[str, object], None]
) -> None:
    setting("maxmemory-policy", "allkeys-lru")
    done = lifelong(command, **there)
    assert (done.returncode, "Traceback" in done.stderr) == (78, False), done.stderr
    assert "allkeys-lru may evict weights; set it to noeviction" in done.stderr
