"""Checks power cuts with real programs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.chaos import programs
from bench.chaos.power import ALL, PowerSupply, kill_all
from tests.required import missing

WRITES = """
import os, sys, time
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
os.write(file, b"synced")
os.fsync(file)
os.write(file, b" and not")
print("written", flush=True)
time.sleep(600)
"""


@pytest.fixture
def power(tmp_path: Path) -> Iterator[PowerSupply]:
    for part in ("redis", "learner", "logs"):
        (tmp_path / part).mkdir()
    with closing(PowerSupply(tmp_path)) as made:
        if not made.can_lose_power:
            missing("compiler", "there is no C compiler")
        yield made


def running(power: PowerSupply, path: Path) -> "subprocess.Popen[bytes]":
    env = os.environ | power.environment()
    process = subprocess.Popen([sys.executable, "-c", WRITES, str(path)], env=env, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    return process


def test_a_role_loses_its_power_and_the_others_keep_theirs(power: PowerSupply, tmp_path: Path) -> None:
    processes = {part: running(power, tmp_path / part / "file") for part in ("redis", "learner")}
    try:
        power.cut(programs.REDIS, [processes["redis"].pid])
        assert (tmp_path / "redis/file").read_bytes().startswith(b"synced")
        assert (tmp_path / "redis/file").read_bytes() != b"synced and not"
        assert (tmp_path / "learner/file").read_bytes() == b"synced and not"
        assert (processes["redis"].wait(), processes["learner"].poll()) == (-9, None)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_with_the_power_of_all_only_the_logs_stay(power: PowerSupply, tmp_path: Path) -> None:
    (tmp_path / "logs/log").write_text("kept")
    process = running(power, tmp_path / "redis/file")
    (tmp_path / "learner/never-synced").write_text("lost")
    words = power.cut(ALL, [process.pid])
    process.wait()
    assert words.endswith("2 files, 0 more events")
    assert (tmp_path / "logs/log").exists()
    assert not (tmp_path / "learner/never-synced").exists()


def test_processes_have_ended_when_they_were_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    kill_all([process.pid])
    assert process.poll() is not None or process.wait(0.1) == -9
    kill_all([process.pid])
