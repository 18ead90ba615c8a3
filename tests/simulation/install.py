"""Puts the simulated clock, threads, disk, broker and store in the place of the real ones, and back again.

    modules of our rooms --names that stand for the outside--> the world that runs

Only what a module of the product imports from outside is replaced, under the name that it has there: the code itself is
the product's. Defaults of functions that are clocks are replaced, too.
"""

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, Final

from learner.failpoints import failpoint
from learner.intake import late_labels
from learner.stopwatch import CLOCKS, Clocks
from tests.simulation.disk import SimOs
from tests.simulation.kafka_clients import polled
from tests.simulation.server import EPOCH_MS
from tests.simulation.threads import Running, SimCondition, SimEvent, SimLock, SimPool, SimThread
from wire.bus import reading
from wire.bus.client import Clients
from wire.bus.fetching import raw_polls
from wire.envelope import from_message
from wire.message import Message, Place
from wire.records import Event, TopicRecord
from wire.store.server import Server
from wire.threads import BackgroundThread, lower_priority
from wire.timestamps import now_ms

ROOMS: Final = ("learner", "wire", "rollout", "serving")
FULL_BYTES: Final = 600
"""Bytes of late labels in memory, instead of 16 MiB: those of one or two; of others only the places are kept."""

FAILPOINT_S: Final = 0.0005
"""Longest pause at a failpoint, where another task may have its turn, or the process may die."""


NOWHERE: Final = Place(topic="", partition=0, offset=0)


class Outside:
    """What the world that runs has in the place of clients: set before a simulation begins."""

    clients: Callable[..., Any]
    server: Callable[..., Any]


def monotonic() -> float:
    return Running.scheduler.now_s


def wall_ms() -> int:
    task = Running.scheduler.current
    skew_ms = task.process.skew_ms if task is not None else 0
    return EPOCH_MS + int(1e3 * Running.scheduler.now_s) + skew_ms


def wall_ns() -> int:
    return 1_000_000 * wall_ms()


def pass_failpoint(name: str) -> None:
    own = Running.scheduler
    if own.current is not None:
        own.pause(own.rng.uniform(0, FAILPOINT_S))


def token_hex(num_bytes: int = 32) -> str:
    return Running.scheduler.rng.randbytes(num_bytes).hex()


TIME: Final = SimpleNamespace(
    monotonic=monotonic,
    perf_counter=monotonic,
    thread_time=monotonic,
    process_time=monotonic,
    time=lambda: 1e-3 * wall_ms(),
    time_ns=wall_ns,
    sleep=lambda seconds: Running.scheduler.pause(seconds),
)
THREADING: Final = SimpleNamespace(
    Event=SimEvent, Lock=SimLock, RLock=SimLock, Condition=SimCondition, Thread=threading.Thread, Timer=threading.Timer
)
REPLACED: Final[tuple[tuple[Any, Any], ...]] = (
    (time, TIME),
    (threading, THREADING),
    (secrets, SimpleNamespace(token_hex=token_hex, randbits=lambda num: Running.scheduler.rng.getrandbits(num))),
    (ThreadPoolExecutor, SimPool),
    (BackgroundThread, SimThread),
    (now_ms, wall_ms),
    (raw_polls, polled),
    (failpoint, pass_failpoint),
    (lower_priority, lambda niceness: None),
    (Clients, lambda *args, **kwargs: Outside.clients(*args, **kwargs)),
    (Server, lambda *args, **kwargs: Outside.server(*args, **kwargs)),
)
CLOCKS_REPLACED: Final[tuple[tuple[Any, Any], ...]] = (
    (time.monotonic, monotonic),
    (time.perf_counter, monotonic),
    (time.thread_time, monotonic),
    (CLOCKS, Clocks(monotonic, monotonic)),
)
ON_DISK: Final = ("wire.files", "learner.state.checkpoints")
"""The modules that write the learner's files by themselves, which go through the simulated disk."""

HOMES: Final = ("wire.threads", "wire.timestamps", "wire.store.server", "wire.bus.fetching", "wire.bus.client")
"""Modules in which the replaced names are defined: there they stay."""


@contextmanager
def installed() -> Iterator[None]:
    """Lets the product run in the simulation until the end of the block."""
    undo = [_set(late_labels, "FULL_BYTES", FULL_BYTES), _set(reading, "from_message", parsed_once())]
    try:
        for module in product_modules():
            undo += _replaced_in(module)
        yield
    finally:
        for step in reversed(undo):
            step()


def parsed_once() -> Callable[..., TopicRecord]:
    """Returns `from_message` with a memory: all processes of a world read the same records, often many times."""

    @cache
    def parsed(record_type: type[TopicRecord], message: Message, place: Place, names: frozenset[str]) -> TopicRecord:
        return from_message(record_type, message, place, passed_on=names)

    def parse(
        record_type: type[TopicRecord],
        message: Message,
        place: Place,
        *,
        foreign: None,
        passed_on: frozenset[str],
        decode: None,
    ) -> TopicRecord:
        assert foreign is None and decode is None
        # Only events are named after their place.
        return parsed(record_type, message, place if record_type is Event else NOWHERE, passed_on)

    return parse


def product_modules() -> list[ModuleType]:
    """Returns the modules of the product that are loaded."""
    return [module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] in ROOMS]


def _replaced_in(module: ModuleType) -> list[Callable[[], None]]:
    undo: list[Callable[[], None]] = []
    is_home = module.__name__ in HOMES
    for name, value in list(vars(module).items()):
        simulated = next((new for old, new in REPLACED if old is value), None)
        if value is os and module.__name__ in ON_DISK:
            simulated = SimOs()
        if simulated is not None and not (is_home and getattr(value, "__module__", "") == module.__name__):
            undo.append(_set(module, name, simulated))
    for function in _list_functions(module):
        undo += _clocks_replaced(function)
    return undo


def _set(owner: Any, name: str, value: Any) -> Callable[[], None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, before)


def _list_functions(module: ModuleType) -> Iterator[FunctionType]:
    for value in list(vars(module).values()):
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield value
        elif isinstance(value, type) and value.__module__ == module.__name__:
            yield from (each for each in vars(value).values() if isinstance(each, FunctionType))


def _clocks_replaced(function: FunctionType) -> list[Callable[[], None]]:
    undo: list[Callable[[], None]] = []
    clocks = {id(old): new for old, new in CLOCKS_REPLACED}
    if any(id(each) in clocks for each in function.__defaults__ or ()):
        undo.append(
            _set(function, "__defaults__", tuple(clocks.get(id(each), each) for each in function.__defaults__ or ()))
        )
    keywords = function.__kwdefaults__ or {}
    if any(id(each) in clocks for each in keywords.values()):
        undo.append(
            _set(function, "__kwdefaults__", {name: clocks.get(id(each), each) for name, each in keywords.items()})
        )
    return undo
