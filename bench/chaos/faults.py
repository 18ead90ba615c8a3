"""Defines faults: a fault begins, lasts for a while, and ends; a kind of fault draws its parameters.

    FaultKind.make(rng) --> Fault: inject --lasts_s--> heal --> is_over

    kill, pause                processes, by signals          cut, toxic               connections, by Toxiproxy
    power_cut                  a machine                      full_disk, wrong_clock   its disk, the clock of a program
    flushall, damaged_blob     data in Redis                  maintenance, attack      an operator, a client with a key

A kill ends at once; the supervisor of the process must restart it.
"""

import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import redis

from bench.chaos.attacker import Attacker
from bench.chaos.sandbox import Clock, Disk
from bench.chaos.size import SceneSize
from bench.chaos.toxiproxy import Proxy
from services.programs import open_store
from services.settings import Settings
from wire.errors import WireError
from wire.records import key_name

Family: TypeAlias = Literal["kill", "cut", "other"]
"""The group in which a fault is counted: kills of a process, power cuts, and all other faults."""

Pids: TypeAlias = Callable[[], list[int]]
"""Returns the processes that currently have a role."""

POWER_CUT = "power cut"
"""The prefix of the names of power cuts."""


def do_nothing() -> None:
    """Ends a fault that needs no action to end."""


@dataclass(slots=True)
class Fault:
    """A fault that was drawn. `begin` injects it and returns a description."""

    name: str
    begin: Callable[[], str] = field(compare=False)
    end: Callable[[], object] = field(default=do_nothing, compare=False)
    lasts_s: float = 0.0
    awaits: Pids | None = field(default=None, compare=False)
    """Returns the processes of a role. The fault is over when the role has a new process."""
    killed: list[int] = field(default_factory=list, compare=False)
    """The processes that the fault has killed; none before it began."""
    parts: Sequence["Fault"] = ()
    """The faults that this fault combines. It is over when all of them are over."""
    _before: list[int] = field(default_factory=list, compare=False)

    @property
    def num_kills(self) -> int:
        return len(self.killed) + sum(part.num_kills for part in self.parts)

    @property
    def is_power_cut(self) -> bool:
        return self.name.startswith(POWER_CUT)

    @property
    def family(self) -> Family:
        """The group in which the recovery is counted. It is known after the fault has begun.

        It differs from the group in which the kind is drawn for a damaged blob: that is another fault, but it also
        kills a replica.
        """
        if self.is_power_cut:
            return "cut"
        if self.num_kills:
            return "kill"
        return "other"

    def inject(self) -> str:
        """Begins the fault; returns a description of its effect."""
        if self.awaits is not None:
            self._before = self.awaits()
        return self.begin()

    def heal(self) -> None:
        """Ends the fault."""
        self.end()

    def is_over(self) -> bool:
        """Returns whether the processes that the fault killed are back."""
        if self.awaits is not None and not set(self.awaits()) - set(self._before):
            return False
        return all(part.is_over() for part in self.parts)


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault that can be drawn. `make` draws its parameters."""

    name: str
    make: Callable[[random.Random], Fault]
    family: Family = "other"


def combine(faults: Sequence[Fault]) -> Fault:
    """Combines several faults into one. They begin and end together."""

    def begin() -> str:
        return ", ".join(fault.inject() for fault in faults)

    def end() -> None:
        for fault in faults:
            fault.heal()

    name = " and ".join(fault.name for fault in faults)
    return Fault(name, begin, end, max(fault.lasts_s for fault in faults), parts=faults)


def draw_duration_s(rng: random.Random, size: SceneSize) -> float:
    """Draws the duration of a fault, in seconds."""
    return round(rng.uniform(size.shortest_s, size.longest_s), 1)


def kill(role: str, pids: Pids, restart: Callable[[], None] = do_nothing) -> Fault:
    """Sends SIGKILL to the first process of a role. `restart` restarts a program that has no supervisor."""
    killed: list[int] = []

    def begin() -> str:
        signalled = _send(signal.SIGKILL, pids()[:1])
        killed.extend(signalled)
        return _describe(signalled)

    return Fault(f"kill {role}", begin, restart, awaits=pids, killed=killed)


def pause(role: str, pids: Pids, lasts_s: float) -> Fault:
    """Sends SIGSTOP, and SIGCONT after a while. It simulates a machine that sleeps or whose disk hangs."""
    stopped: list[int] = []

    def begin() -> str:
        stopped.extend(_send(signal.SIGSTOP, pids()[:1]))
        return _describe(stopped)

    return Fault(f"pause {role}", begin, lambda: _send(signal.SIGCONT, stopped), lasts_s)


def _send(number: signal.Signals, pids: Sequence[int]) -> list[int]:
    """Sends a signal; returns the processes that still existed and received it."""
    signalled = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            signalled.append(pid)
    return signalled


def _describe(pids: Sequence[int]) -> str:
    return ", ".join(f"process {pid}" for pid in pids) or "no process found"


def power_cut(role: str, cut: Callable[[], str], pids: Pids) -> Fault:
    """Cuts the power of a role. `cut` kills its processes and rolls back its files.

    The fault is over when `pids` returns a new process.
    """
    return Fault(f"{POWER_CUT} {role}", cut, awaits=pids)


TOXICS: dict[str, tuple[str, dict[str, int]]] = {
    "black hole": ("timeout", {"timeout": 0}),
    "delay": ("latency", {"latency": 200, "jitter": 50}),
    "bandwidth": ("bandwidth", {"rate": 64}),
    "partial writes": ("slicer", {"average_size": 64, "size_variation": 32, "delay": 500}),
    "reset": ("reset_peer", {"timeout": 0}),
    "cut in mid-message": ("limit_data", {"bytes": 4_096}),
}
"""Our name of a toxic -> Toxiproxy's name and its attributes: milliseconds, KB/s, bytes and microseconds, bytes."""

CUT = "cut"


def network_fault(what: str, connection: str, proxies: Sequence[Proxy], lasts_s: float) -> Fault:
    """Makes a fault of the connections behind `proxies`. `what` is CUT or one of TOXICS.

    CUT closes the connections and refuses new ones.
    """

    def enable(enabled: bool) -> str:
        for proxy in proxies:
            proxy.enable(enabled)
        return ""

    def poison() -> str:
        toxic, severity = TOXICS[what]
        for proxy in proxies:
            proxy.poison(toxic, severity)
        return f"{toxic} {severity}"

    def cure() -> None:
        for proxy in proxies:
            proxy.cure(TOXICS[what][0])

    name = f"{what} {connection}"
    if what == CUT:
        return Fault(name, lambda: enable(False), lambda: enable(True), lasts_s)
    return Fault(name, poison, cure, lasts_s)


def network_kinds(connections: dict[str, list[Proxy]], size: SceneSize) -> list[FaultKind]:
    """Makes a kind for CUT and for each toxic. The connection is drawn."""

    def kind(what: str) -> FaultKind:
        def make(rng: random.Random) -> Fault:
            name = rng.choice(sorted(connections))
            return network_fault(what, name, connections[name], draw_duration_s(rng, size))

        return FaultKind(what, make)

    return [kind(what) for what in (CUT, *TOXICS)] if connections else []


def flushall(settings: Callable[[], Settings]) -> Fault:
    """Deletes all data in Redis."""
    return Fault("FLUSHALL", lambda: _execute(settings(), lambda client: client.flushall()))


def damaged_blob(settings: Callable[[], Settings], killing: Fault, place: float) -> Fault:
    """Flips a bit of the current weights in Redis, and kills a replica, which must read the weights when it restarts.

    `place` in [0, 1) selects the blob.
    """

    def begin() -> str:
        current = settings()
        try:
            with closing(open_store(current)) as store:
                plan = store.plans.read()
                tensors = store.versions.manifest(plan.stable if plan else 0).tensors
        except WireError as error:
            return f"none: {error}"
        tensor = tensors[int(place * len(tensors))]
        key = key_name(current.store.prefix, "blob", tensor.digest)
        reply = _execute(current, lambda client: client.hset(key, 0, _with_flipped_bit(client.hget(key, 0))))
        return f"{tensor.name} {reply}, killed {killing.inject()}"

    return Fault("damaged blob", begin, killing.heal, parts=(killing,))


def _execute(settings: Settings, command: Callable[[Any], object]) -> str:
    """Executes a command on Redis; returns the reply or the error as text."""
    try:
        with redis.Redis.from_url(settings.store.url, protocol=2, socket_timeout=2.0) as client:
            return str(command(client))
    except redis.RedisError as error:
        return f"refused: {error}"


def _with_flipped_bit(chunk: bytes) -> bytes:
    middle = len(chunk) // 2
    return chunk[:middle] + bytes([chunk[middle] ^ 0x20]) + chunk[middle + 1 :]


def full_disk(disk: Disk, lasts_s: float) -> Fault:
    """Fills the disk of the state folder to the last byte."""

    def begin() -> str:
        disk.fill()
        return ""

    return Fault("full disk", begin, disk.empty, lasts_s)


def wrong_clock(role: str, clock: Clock, offset_s: int, lasts_s: float) -> Fault:
    """Sets the wall clock of one program wrong by `offset_s` seconds, and later right again."""

    def begin() -> str:
        clock.set(offset_s)
        return f"{offset_s:+d} s"

    return Fault(f"wrong clock {role}", begin, lambda: clock.set(0), lasts_s)


def maintenance(name: str, begin: Callable[[], str], end: Callable[[], None], size: SceneSize) -> FaultKind:
    """Makes a kind of fault from a maintenance operation with two steps. Each step returns when it is done."""
    return FaultKind(name, lambda rng: Fault(name, begin, end, draw_duration_s(rng, size)))


def attack(attacker: Attacker, note: Callable[[list[str]], None], lasts_s: float) -> Fault:
    """Attacks until the fault is healed. Then `note` gets the forbidden requests that the service accepted."""
    over = threading.Event()

    def run() -> None:
        """Attacks.

        consumes: nothing; produces: requests; waits for: replies, a pause; unblocked by: `end`
        """
        note(attacker.run(over).breaches)

    thread = threading.Thread(target=run, name="attacker", daemon=True)

    def begin() -> str:
        thread.start()
        return ""

    def end() -> None:
        over.set()
        thread.join()

    return Fault("attack", begin, end, lasts_s)
