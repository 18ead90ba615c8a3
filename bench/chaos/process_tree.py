"""Finds the processes of a role among the descendants of one process, by their command lines as `ps` shows them."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

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
    """Returns a process and all that it has started, as far as they live."""
    pids = [root]
    with suppress(psutil.NoSuchProcess):
        pids += [process.pid for process in psutil.Process(root).children(recursive=True)]
    return pids


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The descendants of one process."""

    root: int

    def pids(self, role: str) -> list[int]:
        """Returns the processes of a role; none while it is being started again."""
        pids = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.root).children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    words = process.cmdline()
                    if words and MATCHERS[role](words):
                        pids.append(process.pid)
        return pids

    def answering(self, port: int) -> list[int]:
        """Returns the replicas that listen on `port`, which are those that have their weights."""
        pids = []
        for pid in self.pids(REPLICA):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                sockets = psutil.Process(pid).net_connections("tcp")
                if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                    pids.append(pid)
        return pids
