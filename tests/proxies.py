"""Servers behind Toxiproxy for the tests, which injects the faults of a network."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.chaos.programs import DIRECT, format_node, free_ports, kafka_argv, kafka_environment
from bench.chaos.toxiproxy import Proxy, Toxiproxy
from evals.results.row import Skip
from services.local import children
from services.local.kafka import kafka_home
from services.local.logfile import RotatingLog
from tests.required import missing
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import BusUnavailable

PROXIED = "PROXIED"


@pytest.fixture(scope="module")
def toxiproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toxiproxy]:
    try:
        server = Toxiproxy(tmp_path_factory.mktemp("toxiproxy"))
    except Skip as why:
        missing("toxiproxy", str(why))
    yield server
    server.close()


@pytest.fixture(scope="module")
def kafka_behind(toxiproxy: Toxiproxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Returns the proxy of an Apache Kafka that advertises the address of the proxy."""
    home = kafka_home()
    if home is None:
        missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
    folder = tmp_path_factory.mktemp("kafka") / "node"
    ports = free_ports([DIRECT, PROXIED])
    proxy = toxiproxy.proxy("kafka", f"127.0.0.1:{ports[PROXIED]}")
    format_node(home, folder, ports, {PROXIED: proxy.listen})
    log = RotatingLog(folder / "kafka.log")
    env = kafka_environment(folder)
    process = children.start(kafka_argv(home, folder), log=log, env=env)
    await_broker(process, f"127.0.0.1:{ports[DIRECT]}", folder / "kafka.log")
    yield proxy
    children.stop(process)


def await_broker(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Returns when a broker answers at `address`."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-1_000:]
        try:
            Bus(BusConfig(bootstrap_servers=address), "test").ping()
        except BusUnavailable:
            return False
        return True

    eventually(answers)
