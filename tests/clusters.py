"""Servers of several nodes on one machine: Ray, Kafka (KRaft), and Redis with a replica and a Sentinel.

    RayNode(head) <- RayNode(worker)        three Kafka nodes, each broker and voter        master <- replica, Sentinel

Each node has its own ports and its own folder, and ends by the ids of its own processes.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import redis

from services.local.children import Tethered, free_port
from services.local.kafka import HEAP, LOG_PROPERTIES, LocalBroker
from services.local.logfile import RotatingLog
from services.local.redis import LocalRedis, find_binary, start_redis
from serving.cluster import ENVIRONMENT
from tests.waiting import eventually

RAY_ATTEMPTS = 4

SERVICE = "weights"
"""The name under which the Sentinel knows the master."""

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"

KAFKA_NODE = """\
process.roles=broker,controller
node.id={node}
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=3
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.dirs={logs}
"""


class RayNode:
    """A node of a Ray cluster: `ray start --block` and all that it has started. Without `address` it is the head.

    Ray gives up after 30 s, which a busy machine may take: it is started again then.
    """

    def __init__(
        self, folder: Path, *, port: int, address: str = "", num_cpus: int, environment: Mapping[str, str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "ray.log"
        role = [f"--address={address}"]
        if not address:
            role = ["--head", f"--port={port}", "--include-dashboard=false"]
        options = [
            "--min-worker-port=0",  # otherwise all nodes of a machine have the same range of ports
            "--max-worker-port=0",
            f"--num-cpus={num_cpus}",
            f"--temp-dir={folder}",
            f"--object-store-memory={128 << 20}",
            "--disable-usage-stats",
            "--block",
        ]
        for _ in range(RAY_ATTEMPTS):
            self.process = self._start([*role, *options], is_head=not address, environment=environment)
            eventually(lambda: self._is_up() or self.process.poll() is not None)
            if self.process.poll() is None:
                return
        raise AssertionError(self.log.read_text())

    def _start(
        self, options: Sequence[str], *, is_head: bool, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        names = ["dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port"]
        names += ["ray-client-server-port"] if is_head else []
        own_ports = [f"--{name}={free_port()}" for name in names]
        with self.log.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *options, *own_ports],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def family(self) -> list[psutil.Process]:
        """The node's processes, replicas among them."""
        node = psutil.Process(self.process.pid)
        return [node, *node.children(recursive=True)]

    @property
    def replicas(self) -> list[psutil.Process]:
        found = list[psutil.Process]()
        for process in self.family:
            with suppress(psutil.Error):
                if "ServeReplica" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill(self) -> None:
        """Kills everything of the node at once, as the end of its machine would. Idempotent."""
        if self.process.poll() is None:
            for process in self.family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()

    def _is_up(self) -> bool:
        return "Ray runtime started" in self.log.read_text()


def ray_environment() -> dict[str, str]:
    """Returns what all processes of a cluster have in their environment."""
    alone = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # it forbids a second node
    return {name: value for name, value in ENVIRONMENT.items() if name != alone} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a token of 32 characters or more",
    }


def start_kafka_nodes(home: Path, folder: Path, num: int = 3) -> list[LocalBroker]:
    """Starts nodes that are brokers and voters of one cluster, without waiting for them."""
    ports = [free_port() for _ in range(num)]
    controllers = [free_port() for _ in range(num)]
    voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
    nodes = list[LocalBroker]()
    for node, (port, controller) in enumerate(zip(ports, controllers, strict=True), 1):
        own = folder / f"kafka{node}"
        own.mkdir(parents=True)
        properties = own / "server.properties"
        text = KAFKA_NODE.format(node=node, voters=voters, port=port, controller=controller, logs=own / "logs")
        properties.write_text(text)
        (own / "log4j2.properties").write_text(LOG_PROPERTIES)
        env = {
            "KAFKA_HEAP_OPTS": HEAP,
            "KAFKA_LOG4J_OPTS": f"-Dlog4j2.configurationFile={(own / 'log4j2.properties').as_uri()}",
            "EXTRA_ARGS": "-name kafkaServer",
            "LOG_DIR": str(own / "server"),
        }
        storage = [
            str(home / "bin" / "kafka-storage.sh"),
            "format",
            "-t",
            CLUSTER_ID,
            "-c",
            str(properties),
        ]
        subprocess.run(storage, check=True, capture_output=True, env={**os.environ, **env})
        argv = [str(home / "bin" / "kafka-server-start.sh"), str(properties)]
        nodes.append(LocalBroker(argv, kind="kafka", port=port, log=RotatingLog(own / "kafka.log"), env=env))
    return nodes


class WatchedRedis:
    """A master, a replica of it, and a Sentinel that watches both. `url` names the master of the moment."""

    def __init__(self, folder: Path) -> None:
        ports = [free_port(), free_port()]
        self._sentinel_port = free_port()
        config = folder / "sentinel.conf"
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(
            f"port {self._sentinel_port}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 5000\n"
        )
        shared = {"rename-command": ["CONFIG", "CONFIG"], "bind": ["127.0.0.1"], "repl-diskless-sync-delay": ["0"]}
        of_replica = {"replicaof": ["127.0.0.1", str(ports[0])]}
        self.servers: dict[int, LocalRedis] = {
            ports[0]: start_redis(folder / "one", options={**shared, "port": [str(ports[0])]}),
            ports[1]: start_redis(folder / "two", options={**shared, **of_replica, "port": [str(ports[1])]}),
        }
        argv = [find_binary(), str(config), "--sentinel"]
        self._sentinel = Tethered(argv, log=RotatingLog(folder / "sentinel.log"))
        self.url = f"redis+sentinel://127.0.0.1:{self._sentinel_port}/{SERVICE}/0"
        eventually(self._sees_replica)

    @property
    def master(self) -> int:
        """The port of the master."""
        with redis.Redis(port=self._sentinel_port, protocol=2) as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            return int(port)

    @property
    def replica(self) -> int:
        """The port of the other server."""
        (port,) = self.servers.keys() - {self.master}
        return port

    def stop(self) -> None:
        self._sentinel.stop()
        for server in self.servers.values():
            server.stop()

    def _sees_replica(self) -> bool:
        """Whether the Sentinel could promote the replica."""
        with redis.Redis(port=self._sentinel_port, protocol=2) as client, suppress(redis.RedisError):
            known = client.execute_command("SENTINEL", "REPLICAS", SERVICE)
            return bool(known) and "'master-link-status': 'ok'" in repr(known).replace("b'", "'").replace(
                "', '", "': '"
            )
        return False
