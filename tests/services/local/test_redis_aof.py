"""Tests that holes in append-only files are found and removed, including the holes that Redis left on a full disk."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.sandbox import in_namespace
from services.local.redis import FILES, find_holes, mend, start_redis
from tests.required import missing

FULL = """
import os, signal, sys, time
from pathlib import Path
import redis
from bench.chaos.sandbox import disk
from services.local.redis import start_redis

folder = Path(sys.argv[1])
small = disk(folder, 8)
assert small is not None
server = start_redis(folder / "redis")
client = redis.Redis.from_url(server.url)
client.set("before", 1)
client.bgrewriteaof()
while client.info("persistence")["aof_last_rewrite_time_sec"] < 0:
    time.sleep(0.05)
client.set("between", 1)  # a page of the file is there now, and a write can fill it and be cut short
small.fill()
written = 0
while client.info("persistence")["aof_last_write_status"] == "ok":
    try:
        client.set(f"key {written}", b"x" * 3_000)
    except redis.RedisError:
        break
    written += 1
small.empty()
while client.info("persistence")["aof_last_write_status"] != "ok":
    time.sleep(0.05)
client.set("after", 2)
os.kill(server.process.pid, signal.SIGKILL)
server.process.wait()
server.start_again()
while True:
    try:
        kept = client.mget("before", "after")
        break
    except redis.RedisError:
        time.sleep(0.05)
print(kept)
server.stop()
"""


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def without_zeros(word: bytes) -> bytes:
    return word.replace(b"\0", b"0")


words = st.lists(st.binary(max_size=40) | st.just(bytes(20)), min_size=1, max_size=4)
parts = st.lists(st.tuples(words, st.integers(0, 3)), max_size=8)


@given(parts, st.booleans(), st.data())
def test_holes_lie_between_commands_wherever_the_file_is_cut_off(
    parts: list[tuple[list[bytes], int]], is_noted: bool, data: st.DataObject
) -> None:
    content = b""
    expected = list[tuple[int, int]]()
    for each, num_zeros in parts:
        content += (b"#TS:1\r\n" if is_noted else b"") + command(*each)
        if num_zeros:
            expected.append((len(content), len(content) + num_zeros))
            content += bytes(num_zeros)
    assert find_holes(content) == expected
    cut = data.draw(st.integers(0, len(content)))
    assert find_holes(content[:cut]) == [(start, min(end, cut)) for start, end in expected if start < cut]


@given(st.lists(st.lists(st.binary(max_size=40).map(without_zeros), min_size=1), min_size=1), st.data())
def test_a_command_that_zeros_tear_at_the_end_is_removed_with_them(
    commands: list[list[bytes]], data: st.DataObject
) -> None:
    """After a power cut a file has its full size, but its last pages read as zeros."""
    whole = b"".join(command(*each) for each in commands)
    start = len(whole) - len(command(*commands[-1]))
    cut = data.draw(st.integers(start, len(whole) - 1))
    torn = whole[:cut] + bytes(len(whole) - cut + data.draw(st.integers(0, 40)))
    assert find_holes(torn) == [(start, len(torn))]


def test_a_mended_file_has_its_commands_and_a_file_with_another_fault_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    holed = folder / "a.1.incr.aof"
    broken = folder / "a.2.incr.aof"
    first = command(b"SET", b"a", b"1")
    second = command(b"SET", b"b", bytes(9))
    holed.write_bytes(bytes(2) + first + bytes(936) + second + bytes(4))
    broken.write_bytes(first + bytes(7) + b"SET a 1\n")
    (folder / "a.3.incr.aof").touch()
    # The draft of a program that was killed while it repaired the file.
    (folder / "a.1.incr.aof.77.temporary").write_bytes(first)
    assert mend(tmp_path) == 942
    assert (holed.read_bytes(), holed.stat().st_mode & 0o777) == (first + second, 0o600)
    assert broken.read_bytes() == first + bytes(7) + b"SET a 1\n"
    assert sorted(path.suffix for path in folder.iterdir()) == [".aof"] * 3
    assert mend(tmp_path) == 0


@pytest.mark.live
def test_a_redis_whose_disk_was_full_starts_again_after_a_kill(tmp_path: Path) -> None:
    """F2A: Redis 8.0 left a hole after a rewrite, and failed at each start, so `up` could not start any more."""
    argv = in_namespace([sys.executable, "-c", FULL, str(tmp_path)])
    if argv[0] != "unshare":
        missing("namespaces", "no mount namespace may be made here")
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("[b'1', b'2']\n"), "what was written before and after"


@pytest.mark.live
def test_a_redis_whose_last_command_a_power_cut_tore_starts_again(tmp_path: Path) -> None:
    """Redis failed at each start with "Bad file format", since the last pages, within a command, were zeros."""
    server = start_redis(tmp_path)
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.set("synced", "1")
        # Redis 6 has one file, which a rewrite begins anew.
        client.bgrewriteaof()
        while client.info("persistence")["aof_last_rewrite_time_sec"] < 0:
            time.sleep(0.05)
        client.set("torn", "x" * 5_000)
    server.process.kill()
    server.stop()
    (file,) = (path for pattern in FILES for path in tmp_path.glob(pattern))
    content = file.read_bytes()
    file.write_bytes(content[:-4_096] + bytes(4_096))
    again = start_redis(tmp_path)
    with redis.Redis.from_url(again.url, protocol=2) as client:
        assert client.mget("synced", "torn") == [b"1", None]
    again.stop()
