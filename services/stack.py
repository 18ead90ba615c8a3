"""Everything on one machine: starts what no address names, waits until the first answer is possible, ends it all.

    Redis, broker -> topics -> learner | rollout | serve (side by side) -> first plan, taken by every replica -> ready

Each program is a process of its own with its log in STATE_DIR/logs, tethered to us: it ends when we end, however we
end. The learner, the controller and the replicas are the commands that one would type (`lifelong learn`, ...), with
the settings in their environment.

Rejected: threads in one process (a learner that computes would hold up everything else), and waiting a fixed time.
"""

import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType

from services.guard import guarded
from services.keys import key_bytes, with_signing_key
from services.local import tether
from services.local.kafka import LocalBroker, start_broker
from services.local.redis import LocalRedis, start_redis
from services.memory import memory_of
from services.running import announce, read, withdraw
from services.settings import Settings, as_environment, replaced
from wire.bus import Bus
from wire.clock import now_ms
from wire.store import Store

READY_TIMEOUT_S = 180.0
"""A first start on a slow machine packs the model for its processor; after this long something is wrong."""

LOOK_S = 0.1
"""How often the programs are looked at while we wait for them."""

MIN_LIFE_S = 5.0
"""A program that ends sooner than this is not started again."""

STOP_GRACE_S = 15.0
TAIL_LINES = 15

COMMANDS: dict[str, tuple[str, ...]] = {"serve": ("serve",), "learner": ("learn",), "rollout": ("rollout", "run")}
"""Programs of the stack, the slowest to start first."""

GUARDED = frozenset({"serve"})
"""Programs with children that would outlive them."""


class StackFailed(RuntimeError):
    """A part of the stack did not start, or ended; the message has the end of its log."""


class Stack:
    """The local stack. Enter it from a thread that lives as long as the stack. Verbs: wait, check, memory, close.

    `settings` have every address filled in, `processes` holds what was started, by name. Other commands find the stack
    through a file in `announce_in`, by default the state folder.
    """

    def __init__(
        self, settings: Settings, *, say: Callable[[str], None] = print, announce_in: Path | None = None
    ) -> None:
        self.settings = settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._say = say
        self._announce_in = announce_in or settings.state_dir
        self._redis: LocalRedis | None = None
        self._broker: LocalBroker | None = None
        self._announced = False
        self._launched: dict[str, float] = {}
        self._started_ms = now_ms()

    def __enter__(self) -> "Stack":
        """Raises StackFailed, NoRedis, NoBroker and what the doors raise; nothing is left running then."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def logs(self) -> Path:
        """Folder of the programs' logs."""
        return self.settings.state_dir / "logs"

    def wait(self, stop: threading.Event) -> None:
        """Returns when `stop` is set; raises StackFailed when a program ends before."""
        while not stop.wait(LOOK_S):
            self.check()

    def check(self) -> None:
        """Starts a program again that was killed or asks for it; raises StackFailed when one has ended otherwise."""
        for name, process in self.processes.items():
            if process.poll() is None:
                continue
            if not self._may_restart(name, process.returncode):
                raise StackFailed(f"{name} ended with {process.returncode}; the end of {self._tail(name)}")
            self._say(f"{name} ended with {process.returncode} and is started again")
            self.processes[name] = self._launch(name, COMMANDS[name])

    def memory(self) -> dict[str, int]:
        """Bytes that each program uses with its children, ourselves (`this`) without them."""
        used = memory_of({name: process.pid for name, process in self.processes.items()})
        return used | {"this": memory_of({"all": os.getpid()})["all"] - sum(used.values())}

    def close(self) -> None:
        """Ends everything that was started, what depends on others first. Data stays in the state folder."""
        if self._announced:
            withdraw(self._announce_in)
        programs = [self.processes[name] for name in COMMANDS if name in self.processes]
        for process in programs:
            process.terminate()
        for process in programs:
            tether.stop(process, grace_s=STOP_GRACE_S)
        for server in (self._broker, self._redis):
            if server is not None:
                server.stop()
        self.processes.clear()
        self._broker = self._redis = None

    def _start(self) -> None:
        running = read(self._announce_in)
        if running is not None:
            raise StackFailed(
                f"a stack already runs in {self._announce_in} (process {running['pid']}): "
                "stop it, or choose another folder with --set state_dir=FOLDER"
            )
        self._start_servers()
        self._choose_port()
        self._create_topics()
        for name, command in COMMANDS.items():
            (self.logs / f"{name}.log").unlink(missing_ok=True)
            self.processes[name] = self._launch(name, command)
        self._wait_until_ready()
        announce(self.settings, self._announce_in)
        self._announced = True

    def _start_servers(self) -> None:
        """One after the other: a server ends with the thread that started it, so a thread of its own will not do."""
        settings = self.settings
        if not settings.store.url:
            self._redis = start_redis(settings.state_dir / "redis")
            self.processes["redis"] = self._redis.process
            self._say(f"Redis: {self._redis.version} at {self._redis.url}")
            settings = replaced(settings, {"store.url": self._redis.url})
        if not settings.bus.bootstrap_servers:
            self._broker = start_broker(settings.state_dir / "kafka")
            self.processes["broker"] = self._broker.process
            self._say(f"Broker: {self._broker.kind} at {self._broker.bootstrap_servers}{_memory_note(self._broker)}")
            settings = replaced(settings, {"bus.bootstrap_servers": self._broker.bootstrap_servers})
        self.settings = with_signing_key(settings, own_store=self._redis is not None)

    def _choose_port(self) -> None:
        serving = self.settings.serving
        if not _is_free(serving.http_host, serving.http_port):
            port = tether.free_port()
            self._say(f"HTTP: port {serving.http_port} is taken, so {port}")
            self.settings = replaced(self.settings, {"serving.http_port": port})

    def _create_topics(self) -> None:
        with closing(Bus(self.settings.bus, client_id="stack")) as bus:
            bus.create_topics()

    def _launch(self, name: str, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        log = self.logs / f"{name}.log"
        self._launched[name] = time.monotonic()
        argv = [sys.executable, "-P", "-m", "services.cli", *command, "--config", os.devnull]
        return tether.start(guarded(argv) if name in GUARDED else argv, log=log, env=as_environment(self.settings))

    def _may_restart(self, name: str, returncode: int) -> bool:
        """A killed program goes on from its checkpoint; one that lost its lease asks for it. Not while we start."""
        has_lived = time.monotonic() - self._launched.get(name, math.inf) > MIN_LIFE_S
        return self._announced and has_lived and (returncode < 0 or returncode == os.EX_TEMPFAIL)

    def _wait_until_ready(self) -> None:
        """Until there is a plan, and as many replicas as were asked for hold its versions."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        with closing(open_store(self.settings)) as store, closing(store.watch()) as watch:
            while late := waited_for(store, replicas=self.settings.serving.replicas, since_ms=self._started_ms):
                self.check()
                if time.monotonic() > deadline:
                    raise StackFailed(
                        f"{late} is not ready after {READY_TIMEOUT_S:.0f} s; the end of {self._tail(late)}"
                    )
                watch.wait(LOOK_S)

    def _tail(self, name: str) -> str:
        log = self.logs / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n  ".join([f"{log}:", *lines[-TAIL_LINES:]])


def waited_for(store: Store, *, replicas: int, since_ms: int) -> str:
    """The program of a stack started at `since_ms` that is not ready; empty when an event would be answered."""
    plan = store.plan()
    if plan is None:
        return "rollout" if store.current() else "learner"
    ready = [
        report
        for report in store.reports()  # those of the replicas of an earlier stack are kept for a while
        if report.time_ms >= since_ms and (report.stand_in or set(plan.versions) <= set(report.versions))
    ]
    return "" if len(ready) >= replicas else "serve"


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _memory_note(broker: LocalBroker) -> str:
    if broker.durable:
        return ""
    return "; it keeps records in memory, so they end with it (durable: set KAFKA_HOME to Apache Kafka, with Java)"


def open_store(settings: Settings) -> Store:
    """The store of settings that have an address and a signing key."""
    return Store(settings.store, key_bytes(settings))
