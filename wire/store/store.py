"""The store: all data that the programs keep in Redis.

    learner: leases, blobs, versions, commands, reports
    serving: plans, versions, blobs, labels, reports    rollout: leases, versions, plans, labels, reports, collector
    operator: commands, plans, versions, reports, labels, signatures, dump

Each part is implemented in the file of its name. Each task of a service (`wire.tasks`) has its own store, under its own
key prefix.
"""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from wire.config import StoreConfig
from wire.keyring import KeyRing
from wire.store.blobs import Blobs
from wire.store.collect import Collector
from wire.store.commands import CommandLog, LabelCommands
from wire.store.lease import Leases
from wire.store.plans import Plans
from wire.store.reports import Reports
from wire.store.server import Server
from wire.store.signed import Seals
from wire.store.versions import Versions
from wire.store.watch import Watch
from wire.tasks import DEFAULT

if TYPE_CHECKING:
    from wire.store.dump import Dump
    from wire.store.signatures import Signatures


class Store:
    """Weights, plans and reports of one task in Redis. Connects at the first command. Thread-safe; close it when done.

    With a key ring that cannot sign, everything can be read, and writing a signed record raises CannotSign.

    Every method of every part raises StoreUnavailable if Redis does not answer or refuses. All methods are idempotent,
    so the caller may call them again.
    """

    def __init__(
        self, config: StoreConfig, ring: KeyRing, *, task: str = DEFAULT, server: Server | None = None
    ) -> None:
        """`server` replaces the server that `config` names, for example with a folder (`wire.store.folder`)."""
        self._server = server or Server(task_config(config, task))
        self._ring = ring
        self.versions = Versions(self._server, ring)
        self.commands = CommandLog(self._server, ring)
        self.plans = Plans(self._server, ring, self.commands)
        self.collector = Collector(self._server, self.versions, self.plans, self.commands)
        self.blobs = Blobs(self._server, self.collector.make_room)
        self.leases = Leases(self._server)
        self.labels = LabelCommands(self._server, ring)
        self.seals = Seals(ring, self._server.config.prefix)
        self.reports = Reports(self._server, ring, task)

    @cached_property
    def signatures(self) -> "Signatures":
        # Only commands of the CLI use these modules, so long-running processes do not load them.
        from wire.store.signatures import Signatures

        return Signatures(self._server, self._ring, self.versions)

    @cached_property
    def dump(self) -> "Dump":
        from wire.store.dump import Dump

        return Dump(self._server, self._ring, self.commands)

    def watch(self) -> Watch:
        """Returns a watch that waits for publications and plans from now on."""
        return Watch(self._server)

    def check_policy(self) -> None:
        """Raises UnsafePolicy if the server may evict weights, StoreRefused if it is a Redis Cluster."""
        self._server.check_policy()

    def why_not_durable(self) -> str:
        """Returns why a power failure may lose publications, with the fix; "" if it cannot."""
        return self._server.why_not_durable()

    def max_memory(self) -> int:
        """Returns the server's `maxmemory` in bytes; 0 if it has no limit."""
        return self._server.memory()[1]

    def close(self) -> None:
        """Closes every connection."""
        self._server.close()


def task_config(config: StoreConfig, task: str) -> StoreConfig:
    """Returns the settings of a task's store, which differ in the key prefix."""
    if not task:
        return config
    return replace(config, prefix=f"{config.prefix}task:{task}:")
