"""Which process is which, among the descendants of one: by what its command line says, as `ps` shows it."""

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

SIGNS: dict[str, Callable[[list[str]], bool]] = {
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
"""By role: whether a command line is of a process of that role."""


@dataclass(frozen=True, slots=True)
class Family:
    """The processes that descend from one."""

    root: int

    def pids(self, role: str) -> list[int]:
        """Those of a role; none while it is being started again."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.root).children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    words = process.cmdline()
                    if words and SIGNS[role](words):
                        found.append(process.pid)
        return found

    def answering(self, port: int) -> list[int]:
        """The replicas that listen on `port`: they have their weights."""
        found = []
        for pid in self.pids(REPLICA):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                sockets = psutil.Process(pid).net_connections("tcp")
                if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                    found.append(pid)
        return found
