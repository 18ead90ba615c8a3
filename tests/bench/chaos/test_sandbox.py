"""Checks the small disk and the wrong clock."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from bench.chaos import sandbox
from bench.chaos.sandbox import Clock, Disk, clock, in_namespace
from services.local import children
from services.local.logfile import RotatingLog
from services.local.redis import find_binary
from tests.required import missing
from tests.waiting import eventually

FILLS = """
import os, sys
from pathlib import Path
from bench.chaos.sandbox import disk
folder = Path(sys.argv[1])
small = disk(folder, 2)
assert small is not None
(folder / "kept").write_bytes(b"1" * 1000)
small.fill()
try:
    (folder / "more").write_bytes(b"1" * 8192)
    sys.exit("there was still room")
except OSError as error:
    print(error.strerror)
small.empty()
(folder / "more").write_bytes(b"1" * 1_000_000)
"""

TELLS = """
import time
def ahead_s():
    return time.time() - time.monotonic()
start_s = ahead_s()
print(start_s, flush=True)
while ahead_s() < start_s + 1_800:
    time.sleep(0.1)
print(ahead_s())
"""


def test_a_disk_is_filled_and_emptied_and_no_other_process_sees_it(tmp_path: Path) -> None:
    argv = in_namespace([sys.executable, "-c", FILLS, str(tmp_path)])
    if argv[0] != "unshare":
        missing("namespaces", "no mount namespace may be made here")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "No space left on device\n"), done.stderr
    assert not list(tmp_path.iterdir())


def test_without_a_namespace_there_is_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sandbox.MARK, raising=False)
    assert sandbox.disk(tmp_path, 1) is None


def test_emptying_twice_is_harmless(tmp_path: Path) -> None:
    Disk(tmp_path).empty()


def test_the_clock_of_one_program_jumps(tmp_path: Path) -> None:
    wrong = clock_in(tmp_path)
    command = [sys.executable, "-c", TELLS]
    env = os.environ | wrong.environment()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        true_s = time.time() - time.monotonic()
        assert float(program.stdout.readline()) == pytest.approx(true_s, abs=5)
        wrong.set(3_600)
        assert float(program.stdout.readline()) == pytest.approx(true_s + 3_600, abs=5)


def test_redis_starts_under_a_clock_that_jumps(tmp_path: Path) -> None:
    wrong = clock_in(tmp_path)
    socket = f"{tmp_path}/s"
    argv = [find_binary(), "--port", "0", "--unixsocket", socket, "--dir", str(tmp_path), "--save", ""]
    server = children.start(argv, log=RotatingLog(tmp_path / "log"), env=wrong.environment())
    try:
        with redis.Redis(unix_socket_path=socket) as client:
            eventually(lambda: Path(socket).exists() and client.ping())
            assert client.time()[0] == pytest.approx(time.time(), abs=5)
            wrong.set(-86_400)
            assert client.time()[0] == pytest.approx(time.time() - 86_400, abs=5)
    finally:
        children.stop(server, grace_s=5.0)


def test_without_a_compiler_there_is_no_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert clock(tmp_path, "wrong") is None


def clock_in(folder: Path) -> Clock:
    wrong = clock(folder, "wrong")
    if wrong is None:
        missing("compiler", "there is no C compiler")
    return wrong
