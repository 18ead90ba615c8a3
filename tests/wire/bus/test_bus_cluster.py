"""F5B: one of three nodes of Apache Kafka is killed while events are sent."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from bench.chaos.programs import kafka_argv, kafka_environment, run_tool
from services.local import children
from services.local.kafka import kafka_home
from services.local.logfile import RotatingLog
from tests.proxies import await_broker
from tests.required import missing
from tests.wire.bus.traffic import events, note, patient
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Event

pytestmark = [pytest.mark.live, pytest.mark.slow]

NODES = 3
NUM_EVENTS = 1_500

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.bootstrap.servers={quorum}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
offsets.topic.replication.factor=3
offsets.topic.num.partitions=1
min.insync.replicas=2
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


@dataclass(frozen=True)
class Cluster:
    nodes: list["subprocess.Popen[bytes]"]
    addresses: list[str]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    home = kafka_home()
    if home is None:
        missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
    storage = str(home / "bin" / "kafka-storage.sh")
    uuid, *directories = (run_tool([storage, "random-uuid"], tmp_path) for _ in range(1 + NODES))
    ports = [children.free_port() for _ in range(NODES)]
    controllers = [children.free_port() for _ in range(NODES)]
    quorum = [f"127.0.0.1:{controller}" for controller in controllers]
    voters = ",".join(f"{node}@{quorum[node]}:{directories[node]}" for node in range(NODES))
    nodes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as running:
        for node in range(NODES):
            folder = tmp_path / f"node{node}"
            folder.mkdir()
            config = folder / "server.properties"
            addresses = {"port": ports[node], "controller": controllers[node], "quorum": ",".join(quorum)}
            config.write_text(PROPERTIES.format(node=node, logs=folder / "logs", **addresses))
            run_tool([storage, "format", "-t", uuid, "-c", str(config), "--initial-controllers", voters], folder)
            argv = kafka_argv(home, folder)
            env = kafka_environment(folder)
            nodes.append(children.start(argv, log=RotatingLog(folder / "kafka.log"), env=env))
            running.callback(children.stop, nodes[-1])
        for node in range(NODES):
            await_broker(nodes[node], f"127.0.0.1:{ports[node]}", tmp_path / f"node{node}" / "kafka.log")
        yield Cluster(nodes, [f"127.0.0.1:{port}" for port in ports])


def test_the_loss_of_one_node_loses_nothing_and_repeats_nothing(cluster: Cluster) -> None:
    config = BusConfig(
        bootstrap_servers=",".join(cluster.addresses), replication_factor=3, client={"delivery_timeout_ms": 60_000}
    )
    bus = Bus(config, "test")
    bus.create_topics()
    publisher = bus.publisher()
    acks = Counter[str]()
    for number, event in enumerate(events(NUM_EVENTS)):
        if number == NUM_EVENTS // 3:
            cluster.nodes[1].kill()
        publisher.send(event, partial(note, acks, event.id))
    publisher.flush(60)
    follower = bus.follow([Event], {})
    followed = Counter[str]()
    while followed.total() < NUM_EVENTS:
        followed.update(item.record.id for item in patient(follower.poll)(100).received)
    bus.close()
    expected = Counter(event.id for event in events(NUM_EVENTS))
    assert acks == expected
    assert followed == expected
