"""Starts the servers that proxies need: a broker with a listener for each program, and a Redis on a fixed port."""

import os
import subprocess
from pathlib import Path

from services.local import tether
from services.local.kafka import HEAP, SINGLE_NODE
from services.local.redis import find_binary

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
"""The property of a broker that syncs each batch before it acknowledges it."""


def format_node(
    home: Path, folder: Path, ports: dict[str, int], advertised: dict[str, str], *, properties: str = ""
) -> None:
    """Makes a node with a listener on each of `ports`, which tells its clients the address in `advertised`, or its own.
    It has further `properties`.

    The name of a listener is in upper case.
    """
    own = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    folder.mkdir(parents=True)
    content = PROPERTIES.format(
        controller=tether.free_port(),
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
    """Returns the command that runs a Redis which syncs as `appendfsync` says: `everysec` as a shared one, or `always`.

    What its clients try during a long pause must fit into its backlog: Toxiproxy connects one client after another and
    without a time limit, so a full one would keep all of them away for up to a minute after the pause.
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
    return {name: tether.free_port() for name in names}


def run_tool(argv: list[str], folder: Path) -> str:
    """Runs one of Kafka's tools, with its log in `folder`; returns its output. Raises CalledProcessError."""
    env = {**os.environ, **kafka_environment(folder)}
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout.strip()
