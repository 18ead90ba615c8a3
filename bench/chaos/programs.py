"""Keeps the programs and the servers of a scene running, and finds their processes.

Programs       restarts a program a second after it ended, as a service manager does
kafka_argv     the command of a broker that has a listener for each program, so that each has a proxy
redis_argv     the command of a Redis on a fixed port
ProcessTree    finds the processes of a role among the descendants of one process, by their command lines
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.local import children
from services.local.kafka import HEAP, SINGLE_NODE
from services.local.logfile import RotatingLog
from services.local.redis import find_binary

RESTART_S = 1.0


@dataclass(slots=True)
class ChaosProgram:
    """A program, and its process while it runs."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    prepare: Callable[[], object] = lambda: None
    """Runs before each start, like ExecStartPre of a service manager."""
    process: "subprocess.Popen[bytes] | None" = None
    due_s: float = 0.0

    def start(self) -> None:
        self.prepare()
        self.process = children.start(list(self.argv), log=RotatingLog(self.log), env=self.env)

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0


class Programs:
    """Owns the programs, in the order in which they are started. It belongs to the thread that starts them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._programs: dict[str, ChaosProgram] = {}
        self.num_unexpected_ends = 0
        """How often a program ended that was not killed and whose exit code did not ask for a restart (75)."""

    def start(self, program: ChaosProgram) -> None:
        self._programs[program.name] = program
        program.start()

    @property
    def pids(self) -> list[int]:
        return [program.pid for program in self._programs.values() if program.pid]

    def check(self) -> None:
        """Restarts the programs that ended at least RESTART_S ago."""
        now_s = time.monotonic()
        for program in self._programs.values():
            if program.process is not None and (code := program.process.poll()) is not None:
                program.process = None
                program.due_s = now_s + RESTART_S
                self.num_unexpected_ends += code not in (-signal.SIGKILL, os.EX_TEMPFAIL)
                if code >= 0:
                    self._say(f"{program.name} ended unexpectedly with exit code {code}: {last_line(program.log)}")
            if program.process is None and now_s >= program.due_s:
                program.start()

    def stop(self, name: str, grace_s: float) -> None:
        """Stops a program until `start` starts it again."""
        program = self._programs.pop(name, None)
        if program is not None and program.process is not None:
            children.stop(program.process, grace_s=grace_s)

    def close(self, grace_s: float) -> None:
        """Stops the programs, the last one first."""
        for program in reversed(self._programs.values()):
            if program.process is not None:
                children.stop(program.process, grace_s=grace_s)
        self._programs.clear()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else ""


PROPERTIES_FILE = "server.properties"

DIRECT = "DIRECT"
"""The listener of the broker that has no proxy."""

PROPERTIES = (
    SINGLE_NODE
    + """\
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT
inter.broker.listener.name={direct}
log.dirs={logs}
"""
)

DURABLE = "log.flush.interval.messages=1\n"
"""The property with which a broker syncs each batch before it acknowledges the batch."""


def format_node(
    home: Path, folder: Path, ports: dict[str, int], advertised: dict[str, str], *, properties: str = ""
) -> None:
    """Formats the storage of a broker with a listener on each of `ports`.

    A listener advertises its address in `advertised`, or its own address. Listener names are in upper case.
    `properties` are appended to the broker's properties file.
    """
    own = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    folder.mkdir(parents=True)
    content = PROPERTIES.format(
        controller=children.free_port(),
        listeners=",".join(f"{name}://{address}" for name, address in own.items()),
        advertised=",".join(f"{name}://{address}" for name, address in (own | advertised).items()),
        protocols=",".join(f"{name}:PLAINTEXT" for name in own),
        direct=DIRECT,
        logs=folder / "logs",
    )
    (folder / PROPERTIES_FILE).write_text(content + properties)
    storage = str(home / "bin" / "kafka-storage.sh")
    cluster = run_tool([storage, "random-uuid"], folder)
    run_tool([storage, "format", "--standalone", "-t", cluster, "-c", str(folder / PROPERTIES_FILE)], folder)


def kafka_argv(home: Path, folder: Path) -> list[str]:
    """Returns the command that runs the node in `folder`."""
    return [str(home / "bin" / "kafka-server-start.sh"), str(folder / PROPERTIES_FILE)]


def kafka_environment(folder: Path) -> dict[str, str]:
    return {"KAFKA_HEAP_OPTS": HEAP, "LOG_DIR": str(folder / "server")}


def redis_argv(folder: Path, port: int, *, appendfsync: str) -> list[str]:
    """Returns the command that runs Redis. `appendfsync` is `everysec`, as shipped, or `always`.

    The backlog must have room for all connection attempts during a long pause. Toxiproxy connects one client after the
    other and without a time limit, so a full backlog would block all clients for up to a minute after the pause.
    """
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "tcp-backlog": "4096",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "save": "",
        "maxmemory": "1gb",
        "maxmemory-policy": "noeviction",
    }
    argv = [find_binary()]
    for name, value in options.items():
        argv += [f"--{name}", value]
    return argv


def free_ports(names: list[str]) -> dict[str, int]:
    return {name: children.free_port() for name in names}


def run_tool(argv: list[str], folder: Path) -> str:
    """Runs one of Kafka's tools, with its log in `folder`; returns its output. Raises CalledProcessError."""
    env = {**os.environ, **kafka_environment(folder)}
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout.strip()


REPLICA = "replica"
SERVE_CONTROLLER = "Serve controller"
RAYLET = "raylet"
GCS = "gcs_server"
SERVE = "serve"
LEARNER = "learner"
CONTROLLER = "rollout controller"
REDIS = "Redis"
BROKER = "broker"

MATCHERS: dict[str, Callable[[list[str]], bool]] = {
    REPLICA: lambda words: words[0].startswith("ray::ServeReplica"),
    SERVE_CONTROLLER: lambda words: words[0].startswith("ray::ServeController"),
    RAYLET: lambda words: words[0].endswith("/raylet"),
    GCS: lambda words: words[0].endswith("/gcs_server"),
    SERVE: lambda words: words[3:5] == ["services.cli", "serve"],
    LEARNER: lambda words: words[3:5] == ["services.cli", "learn"],
    CONTROLLER: lambda words: words[3:5] == ["services.cli", "rollout"],
    REDIS: lambda words: "redis-server" in words[0],
    BROKER: lambda words: words[0].endswith("java") and "kafka.Kafka" in words,
}
"""The predicate of each role: whether a command line belongs to it."""


def descendants(root: int) -> list[int]:
    """Returns a process and its living descendants."""
    pids = [root]
    with suppress(psutil.NoSuchProcess):
        pids += [process.pid for process in psutil.Process(root).children(recursive=True)]
    return pids


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The descendants of one process."""

    root: int

    def pids(self, role: str) -> list[int]:
        """Returns the processes of a role; none while the role is being restarted."""
        pids = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.root).children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    words = process.cmdline()
                    if words and MATCHERS[role](words):
                        pids.append(process.pid)
        return pids

    def answering(self, port: int) -> list[int]:
        """Returns the replicas that listen on `port`. A replica listens once it has its weights."""
        pids = []
        for pid in self.pids(REPLICA):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                sockets = psutil.Process(pid).net_connections("tcp")
                if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                    pids.append(pid)
        return pids
