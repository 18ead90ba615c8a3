"""Tests that programs end with their parent, and that a port is returned only once."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from services.local.children import OWNER_ONLY, Tethered, free_port, stop
from services.local.logfile import RotatingLog
from tests.waiting import eventually

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)",
]
PARENT = """
import os, sys
from pathlib import Path
from services.local.logfile import RotatingLog
from services.local.children import start
child = start([sys.executable, "-c", "import time; time.sleep(600)"], log=RotatingLog(Path(sys.argv[1])))
print(child.pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), 9)
"""


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_a_program_can_be_started_again_and_is_stopped(tmp_path: Path) -> None:
    program = Tethered(SLEEP, log=RotatingLog(tmp_path / "log"))
    first = program.process
    stop(first)
    again = program.start_again()
    assert again.pid != first.pid
    program.stop()
    assert again.poll() is not None


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    program = Tethered(STUBBORN, log=RotatingLog(path))
    eventually(lambda: path.exists() and "on" in path.read_text())
    program.stop(grace_s=0.1)
    assert program.process.returncode == -9


def test_a_program_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.communicate("die\n")
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_files_of_a_program_are_private(tmp_path: Path) -> None:
    path = tmp_path / "made"
    touch = [sys.executable, "-c", f"open({str(path)!r}, 'w')"]
    program = Tethered(touch, log=RotatingLog(tmp_path / "log"))
    program.process.wait(30)
    program.log.close()
    assert path.stat().st_mode & OWNER_ONLY == 0
