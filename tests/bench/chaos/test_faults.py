"""Checks faults: kills and pauses of real processes, the end of a fault, and two faults at once."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest
from pydantic import SecretStr

from bench.chaos.faults import Fault, combine, damaged_blob, kill, pause, power_cut
from bench.chaos.scene import scene_settings
from services.settings import Settings, replaced
from tests.waiting import eventually

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    with ExitStack() as started:
        processes = [started.enter_context(subprocess.Popen(SLEEPS)) for _ in range(2)]
        for process in processes:
            started.callback(process.kill)
        yield processes


def test_a_kill_counts_when_a_process_was_killed(sleepers: list[subprocess.Popen[bytes]]) -> None:
    first, second = sleepers
    fault = kill("sleeper", lambda: [first.pid, second.pid])
    assert fault.num_kills == 0
    assert fault.inject() == f"process {first.pid}"
    assert (first.wait(10), second.poll(), fault.num_kills) == (-9, None, 1)
    assert fault.family == "kill"


@pytest.mark.parametrize("has_ended", [True, False])
def test_without_a_process_no_kill_counts(sleepers: list[subprocess.Popen[bytes]], has_ended: bool) -> None:
    gone, other = sleepers
    gone.kill()
    gone.wait()
    nobody = kill("nobody", lambda: [gone.pid] if has_ended else [])
    both = combine((nobody, kill("sleeper", lambda: [other.pid])))
    assert both.inject() == f"no process found, process {other.pid}"
    assert (nobody.num_kills, both.num_kills) == (0, 1)
    assert (nobody.family, both.family) == ("other", "kill")


def test_a_pause_ends(sleepers: list[subprocess.Popen[bytes]]) -> None:
    process = psutil.Process(sleepers[0].pid)
    fault = pause("sleeper", lambda: [process.pid], 1.0)
    fault.inject()
    eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    fault.heal()
    eventually(lambda: process.status() != psutil.STATUS_STOPPED)
    assert fault.num_kills == 0


def test_a_power_cut_is_over_when_another_process_has_the_role() -> None:
    pids = [7]

    def cut() -> str:
        pids.clear()
        return "5 bytes"

    fault = power_cut("broker", cut, lambda: list(pids))
    assert (fault.name, fault.inject(), fault.is_over()) == ("power cut broker", "5 bytes", False)
    pids.append(7)
    assert not fault.is_over()
    pids.append(8)
    assert fault.is_over()
    assert (fault.num_kills, fault.is_power_cut, fault.family) == (0, True, "cut")


def test_combined_faults_begin_and_end_together_and_the_longer_duration_counts() -> None:
    done: list[str] = []
    one = Fault("cut", lambda: "cut began", lambda: done.append("cut"), 2.0)
    other = Fault("kill", lambda: "kill began", lambda: done.append("kill"), 5.0, killed=[7])
    both = combine((one, other))
    assert both.inject() == "cut began, kill began"
    both.heal()
    assert (both.name, both.lasts_s, both.num_kills) == ("cut and kill", 5.0, 1)
    assert done == ["cut", "kill"]
    assert both.is_over()


def no_store() -> Settings:
    return replaced(scene_settings(store__url="redis://127.0.0.1:1/0"), {"signing_key": SecretStr("k" * 32)})


def test_without_a_blob_no_process_is_killed(sleepers: list[subprocess.Popen[bytes]]) -> None:
    replica, _ = sleepers
    fault = damaged_blob(no_store, kill("replica", lambda: [replica.pid]), 0.5)
    assert fault.inject().startswith("none: ")
    assert (replica.poll(), fault.num_kills) == (None, 0)
