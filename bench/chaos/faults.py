"""Defines what goes wrong, one class for each kind of fault. `inject` begins a fault, `heal` ends it.

    Fault, FaultKind, Together    the protocol, what can be drawn, and two faults at once
    Kill, Pause                   processes, by signals         Cut, Toxic       connections, by Toxiproxy
    PowerCut                      a machine                     FullDisk, WrongClock    its disk, the clock of a program
    FlushAll, DamagedBlob         data in Redis                 Maintenance, Attack     an operator, a client with a key

A kill is over at once; the process must be started again by its supervisor. Other faults last `lasts_s` seconds.
"""

import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import redis

from bench.chaos.attacker import Attacker
from bench.chaos.sandbox import Clock, Disk
from bench.chaos.toxiproxy import Proxy
from services.programs import open_store
from services.settings import Settings
from wire.errors import WireError
from wire.records import key_name

Family: TypeAlias = Literal["kill", "cut", "other"]
"""What is counted: faults that kill a process, power cuts, and all others."""


class Fault(Protocol):
    """A fault that was drawn."""

    @property
    def name(self) -> str: ...

    @property
    def lasts_s(self) -> float: ...

    @property
    def num_kills(self) -> int:
        """The number of processes that it has killed; 0 before it began."""

    def inject(self) -> str:
        """Begins the fault; returns what it did, in words."""

    def heal(self) -> None:
        """Ends the fault."""

    def is_over(self) -> bool:
        """Whether what it took away is there again."""


class Lasting:
    """A fault that takes nothing away for good."""

    __slots__ = ()

    def is_over(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault that can be drawn. `make` draws its parameters."""

    name: str
    make: Callable[[random.Random], Fault]
    family: Family = "other"


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


Pids: TypeAlias = Callable[[], list[int]]
"""Returns the processes that have a role now."""


@dataclass(slots=True)
class Kill:
    """Sends SIGKILL to the first process of a role. `restart` starts again what has no supervisor."""

    role: str
    pids: Pids
    restart: Callable[[], None] = lambda: None
    lasts_s: float = 0.0
    num_kills: int = 0
    _before: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"kill {self.role}"

    def inject(self) -> str:
        self._before = self.pids()
        killed = _send(signal.SIGKILL, self._before[:1])
        self.num_kills = len(killed)
        return _described(killed)

    def heal(self) -> None:
        self.restart()

    def is_over(self) -> bool:
        return bool(set(self.pids()) - set(self._before))


@dataclass(slots=True)
class Pause(Lasting):
    """Sends SIGSTOP, and SIGCONT after a while, as when a machine sleeps or its disk hangs."""

    role: str
    pids: Pids
    lasts_s: float
    num_kills: int = 0
    _stopped: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"pause {self.role}"

    def inject(self) -> str:
        self._stopped = _send(signal.SIGSTOP, self.pids()[:1])
        return _described(self._stopped)

    def heal(self) -> None:
        _send(signal.SIGCONT, self._stopped)


def _send(number: signal.Signals, pids: Sequence[int]) -> list[int]:
    """Sends a signal; returns the processes that were there to get it."""
    reached = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            reached.append(pid)
    return reached


def _described(pids: Sequence[int]) -> str:
    return ", ".join(f"process {pid}" for pid in pids) or "nobody is there"


@dataclass(slots=True)
class PowerCut:
    """Kills and rolls back. `pids` are the processes whose return ends it."""

    role: str
    cut: Callable[[], str]
    pids: Pids
    lasts_s: float = 0.0
    num_kills: int = 0
    _before: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"power cut {self.role}"

    def inject(self) -> str:
        self._before = self.pids()
        return self.cut()

    def heal(self) -> None:
        pass

    def is_over(self) -> bool:
        return bool(set(self.pids()) - set(self._before))


TOXICS: dict[str, tuple[str, dict[str, int]]] = {
    "black hole": ("timeout", {"timeout": 0}),
    "delay": ("latency", {"latency": 200, "jitter": 50}),
    "bandwidth": ("bandwidth", {"rate": 64}),
    "partial writes": ("slicer", {"average_size": 64, "size_variation": 32, "delay": 500}),
    "reset": ("reset_peer", {"timeout": 0}),
    "cut in mid-message": ("limit_data", {"bytes": 4_096}),
}
"""The toxics by our name, with Toxiproxy's name and the severity: milliseconds, KB/s, bytes and microseconds, bytes."""


@dataclass(frozen=True, slots=True)
class Cut(Lasting):
    """Cuts the connections between a program and a server, and refuses new ones."""

    connection: str
    proxies: Sequence[Proxy]
    lasts_s: float
    num_kills: int = 0

    @property
    def name(self) -> str:
        return f"cut {self.connection}"

    def inject(self) -> str:
        for proxy in self.proxies:
            proxy.enable(False)
        return ""

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.enable(True)


@dataclass(frozen=True, slots=True)
class Toxic(Lasting):
    """Applies a toxic of Toxiproxy to the bytes between a program and a server."""

    what: str
    connection: str
    proxies: Sequence[Proxy]
    kind: str
    attributes: dict[str, int]
    lasts_s: float
    num_kills: int = 0

    @property
    def name(self) -> str:
        return f"{self.what} {self.connection}"

    def inject(self) -> str:
        for proxy in self.proxies:
            proxy.poison(self.kind, self.attributes)
        return f"{self.kind} {self.attributes}"

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.cure(self.kind)


@dataclass(frozen=True, slots=True)
class FlushAll(Lasting):
    """Makes Redis forget everything."""

    settings: Callable[[], Settings]
    name: str = "FLUSHALL"
    lasts_s: float = 0.0
    num_kills: int = 0

    def inject(self) -> str:
        return _execute(self.settings(), lambda client: client.flushall())

    def heal(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class DamagedBlob:
    """Flips a bit of the current weights in Redis, and kills a replica, which has to read them when it starts."""

    settings: Callable[[], Settings]
    kill: Kill
    place: float
    """Selects the blob, in [0, 1)."""
    name: str = "damaged blob"
    lasts_s: float = 0.0

    @property
    def num_kills(self) -> int:
        return self.kill.num_kills

    def inject(self) -> str:
        settings = self.settings()
        try:
            with closing(open_store(settings)) as store:
                tensors = store.versions.manifest(store.plans.read().stable).tensors  # type: ignore[union-attr]  # caught below
        except (WireError, AttributeError) as error:
            return f"none: {error}"
        tensor = tensors[int(self.place * len(tensors))]
        key = key_name(settings.store.prefix, "blob", tensor.digest)
        reply = _execute(settings, lambda client: client.hset(key, 0, _with_flipped_bit(client.hget(key, 0))))
        return f"{tensor.name} {reply}, killed {self.kill.inject()}"

    def heal(self) -> None:
        self.kill.heal()

    def is_over(self) -> bool:
        return self.kill.is_over()


def _execute(settings: Settings, command: Callable[[Any], object]) -> str:
    """Executes a command on Redis; returns its reply, or why it was refused, in words."""
    try:
        with redis.Redis.from_url(settings.store.url, protocol=2, socket_timeout=2.0) as client:
            return str(command(client))
    except redis.RedisError as error:
        return f"refused: {error}"


def _with_flipped_bit(chunk: bytes) -> bytes:
    middle = len(chunk) // 2
    return chunk[:middle] + bytes([chunk[middle] ^ 0x20]) + chunk[middle + 1 :]


@dataclass(frozen=True, slots=True)
class FullDisk(Lasting):
    """Leaves not a byte on the disk of the state folder."""

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
    """Makes the wall clock of one program jump, and jump back."""

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
class Maintenance(Lasting):
    """An operation with two steps. Each returns when it is done."""

    name: str
    begin: Callable[[], str]
    end: Callable[[], None]
    lasts_s: float
    num_kills: int = 0

    def inject(self) -> str:
        return self.begin()

    def heal(self) -> None:
        self.end()


@dataclass(slots=True)
class Attack(Lasting):
    """Attacks until it is healed. `note` gets what the service took that nobody may have taken."""

    attacker: Callable[[], Attacker]
    note: Callable[[list[str]], None]
    lasts_s: float
    name: str = "attack"
    num_kills: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def inject(self) -> str:
        self._thread = threading.Thread(target=self._attack, name="attacker", daemon=True)
        self._thread.start()
        return ""

    def heal(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _attack(self) -> None:
        """Attacks.

        consumes: nothing; produces: requests; waits for: replies, a pause; unblocked by: `heal`
        """
        self.note(self.attacker().run(self._over).breaches)
