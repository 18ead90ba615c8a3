"""What goes wrong, one class a kind: `inject` begins it and says what it did, `heal` ends it.

A kill is over at once; whoever watches over the process has to start it again. The rest lasts `lasts_s` seconds.
"""

import os
import random
import signal
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis

from bench.chaos.sandbox import Clock, Disk
from bench.chaos.toxiproxy import Proxy
from services.settings import Settings
from services.stack import open_store
from wire.errors import WireError
from wire.records import key_name

Pids = Callable[[], list[int]]
"""The processes of a role, now."""


class Fault(Protocol):
    """A fault that was drawn. `num_kills` counts the processes that it kills."""

    @property
    def name(self) -> str: ...
    @property
    def lasts_s(self) -> float: ...
    @property
    def num_kills(self) -> int: ...

    def inject(self) -> str: ...
    def heal(self) -> None: ...

    def is_over(self) -> bool:
        """Whether what it took away is there again."""


class Lasting:
    """A fault that takes nothing away for good."""

    __slots__ = ()

    def is_over(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A fault that can be drawn: `make` draws what is open about it."""

    name: str
    make: Callable[[random.Random], Fault]
    is_kill: bool = False


@dataclass(slots=True)
class Kill:
    """SIGKILL; `again` starts what nobody else starts again."""

    role: str
    pids: Pids
    again: Callable[[], None] = lambda: None
    lasts_s: float = 0.0
    num_kills: int = 1
    _before: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"kill {self.role}"

    def inject(self) -> str:
        self._before = self.pids()
        _signal(self._before[:1], signal.SIGKILL)
        return _said(self._before[:1])

    def heal(self) -> None:
        self.again()

    def is_over(self) -> bool:
        return bool(set(self.pids()) - set(self._before))


@dataclass(slots=True)
class Pause(Lasting):
    """SIGSTOP, and SIGCONT after a while, as when a machine sleeps or its disk hangs."""

    role: str
    pids: Pids
    lasts_s: float
    num_kills: int = 0
    _stopped: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"pause {self.role}"

    def inject(self) -> str:
        self._stopped = self.pids()[:1]
        _signal(self._stopped, signal.SIGSTOP)
        return _said(self._stopped)

    def heal(self) -> None:
        _signal(self._stopped, signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Cut(Lasting):
    """The connections between a program and a server are cut, and new ones refused."""

    way: str
    proxies: Sequence[Proxy]
    lasts_s: float
    num_kills: int = 0

    @property
    def name(self) -> str:
        return f"cut {self.way}"

    def inject(self) -> str:
        for proxy in self.proxies:
            proxy.enable(False)
        return ""

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.enable(True)


@dataclass(frozen=True, slots=True)
class Toxic(Lasting):
    """What Toxiproxy does to the bytes between a program and a server."""

    what: str
    way: str
    proxies: Sequence[Proxy]
    kind: str
    attributes: dict[str, int]
    lasts_s: float
    num_kills: int = 0

    @property
    def name(self) -> str:
        return f"{self.what} {self.way}"

    def inject(self) -> str:
        for proxy in self.proxies:
            proxy.poison(self.kind, self.attributes)
        return f"{self.kind} {self.attributes}"

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.cure(self.kind)


TOXICS: dict[str, tuple[str, dict[str, int]]] = {
    "black hole": ("timeout", {"timeout": 0}),
    "delay": ("latency", {"latency": 200, "jitter": 50}),
    "bandwidth": ("bandwidth", {"rate": 64}),
    "partial writes": ("slicer", {"average_size": 64, "size_variation": 32, "delay": 500}),
    "reset": ("reset_peer", {"timeout": 0}),
    "cut in mid-message": ("limit_data", {"bytes": 4_096}),
}
"""Name, Toxiproxy's name, and how bad: milliseconds, KB/s, bytes and microseconds, bytes."""


@dataclass(frozen=True, slots=True)
class FullDisk(Lasting):
    """Not a byte is left on the disk of the state folder."""

    disk: Disk
    lasts_s: float
    name: str = "full disk"
    num_kills: int = 0

    def inject(self) -> str:
        self.disk.fill()
        return ""

    def heal(self) -> None:
        self.disk.empty()


@dataclass(frozen=True, slots=True)
class WrongClock(Lasting):
    """The wall clock of one program jumps, and jumps back."""

    role: str
    clock: Clock
    offset_s: int
    lasts_s: float
    num_kills: int = 0

    @property
    def name(self) -> str:
        return f"wrong clock {self.role}"

    def inject(self) -> str:
        self.clock.set(self.offset_s)
        return f"{self.offset_s:+d} s"

    def heal(self) -> None:
        self.clock.set(0)


@dataclass(frozen=True, slots=True)
class FlushAll(Lasting):
    """Redis forgets everything."""

    where: Callable[[], Settings]
    name: str = "FLUSHALL"
    lasts_s: float = 0.0
    num_kills: int = 0

    def inject(self) -> str:
        return _told(self.where(), lambda client: client.flushall())

    def heal(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class DamagedBlob:
    """A byte of the current weights is another one in Redis, and a replica that has to read them starts."""

    where: Callable[[], Settings]
    kill: Kill
    place: float
    """Which of the blobs, in [0, 1)."""
    name: str = "damaged blob"
    lasts_s: float = 0.0
    num_kills: int = 1

    def inject(self) -> str:
        settings = self.where()
        try:
            with closing(open_store(settings)) as store:
                tensors = store.manifest(store.plan().stable).tensors  # type: ignore[union-attr]  # caught below
        except (WireError, AttributeError) as error:
            return f"none: {error}"
        tensor = tensors[int(self.place * len(tensors))]
        key = key_name(settings.store.prefix, "blob", tensor.digest)
        said = _told(settings, lambda client: client.hset(key, 0, _flipped(client.hget(key, 0))))
        return f"{tensor.name} {said}, killed {self.kill.inject()}"

    def heal(self) -> None:
        self.kill.heal()

    def is_over(self) -> bool:
        return self.kill.is_over()


@dataclass(frozen=True, slots=True)
class Together:
    """Two faults at once."""

    faults: Sequence[Fault]

    @property
    def name(self) -> str:
        return " and ".join(fault.name for fault in self.faults)

    @property
    def lasts_s(self) -> float:
        return max(fault.lasts_s for fault in self.faults)

    @property
    def num_kills(self) -> int:
        return sum(fault.num_kills for fault in self.faults)

    def inject(self) -> str:
        return ", ".join(fault.inject() for fault in self.faults)

    def heal(self) -> None:
        for fault in self.faults:
            fault.heal()

    def is_over(self) -> bool:
        return all(fault.is_over() for fault in self.faults)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _said(pids: Sequence[int]) -> str:
    return ", ".join(f"process {pid}" for pid in pids) or "nobody is there"


def _told(settings: Settings, command: Callable[[Any], object]) -> str:
    try:
        with redis.Redis.from_url(settings.store.url, protocol=2, socket_timeout=2.0) as client:
            return str(command(client))
    except redis.RedisError as error:
        return f"refused: {error}"


def _flipped(chunk: bytes) -> bytes:
    middle = len(chunk) // 2
    return chunk[:middle] + bytes([chunk[middle] ^ 0x20]) + chunk[middle + 1 :]
