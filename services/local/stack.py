"""The local stack: starts all processes of the service, waits until they are ready, and ends them.

    Redis -> broker -> topics | learner | rollout | serve (in parallel) -> first plan, a replica that answers -> ready
    any thread --say, which never waits--> Announcer: bounded queue --its thread--> a terminal

Each program is a process with its log in STATE_DIR/logs. It is tethered to us, so it ends even if we are killed. The
learners, the controllers and the replicas are the commands that a user would type (`services/programs.py`), with the
settings in their environment. The supervisor (`services/local/supervisor.py`) restarts a program that ends, at the
same address, so that its clients find it. Replicas go on answering meanwhile. At the end of the stack they are stopped
after the learners and controllers.

A terminal that takes no output (Ctrl-S, a full pipe) blocks only the announcer's thread, which is the only one that
prints.
"""

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from services.keys import ReplicaKeys, with_signing_key
from services.local import children
from services.local.children import guarded
from services.local.folders import private_folder
from services.local.logfile import RotatingLog
from services.local.servers import Servers
from services.local.supervisor import Program, StackFailed, Supervisor
from services.programs import open_stores, program_commands, program_name, unready_programs
from services.resident_bytes import resident_bytes
from services.running import announce, claim, remove_announcement
from services.settings import Settings, as_environment, environment_variable, replaced
from serving.http.listener import PortTaken, check_port
from wire.errors import StoreUnavailable
from wire.files import do_nothing
from wire.store import Store
from wire.tasks import DEFAULT

READY_TIMEOUT_S = 180.0
"""Longest start of all programs. The first start on a slow machine packs the model for its processor."""

POLL_INTERVAL_S = 0.1

STOP_GRACE_S = 15.0

PRINTED_WITHIN_S = 1.0
"""How long the start and the end of the stack wait until their messages are printed."""

LOW_BYTES = 64 << 20
ENOUGH_BYTES = 128 << 20
"""A disk counts as full below the first, until the second is free: the size of two checkpoints, and of four."""

LOGS = "logs"

TASK_VARIABLE = environment_variable("task")

GUARDED = frozenset({"serve"})
"""Programs whose descendants would outlive them without a guard."""

MAX_WAITING: Final = 100
"""Largest number of messages that wait to be printed. Further messages are dropped and counted."""


class Stack:
    """The local stack. Enter it from a thread that lives as long as the stack. Verbs: wait, check, stop, memory, close.

    Once the stack has started, its `settings` have every address. Other commands find the stack through a file in the
    folder `announce_in`, by default the state folder. `pretrains`: see `program_commands`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        say: Callable[[str], None] = print,
        announce_in: Path | None = None,
        pretrains: bool = False,
    ) -> None:
        self.settings = settings
        self._commands = program_commands(settings, pretrains=pretrains)
        self._announcer = Announcer(say)
        self._announce_in = announce_in or settings.state_dir
        self._claims: list[BinaryIO] = []
        self._supervisor = Supervisor(say=self._announcer.say)
        self._servers = Servers(self._supervisor, say=self._announcer.say)
        self._closing = threading.Event()
        self._is_announced = False
        self._is_disk_low = False
        self._follow_keys: Callable[[], None] = do_nothing

    def __enter__(self) -> "Stack":
        """Starts the stack. If it raises (StackFailed, NoRedis, NoBroker, WireError), no process is left running."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._start()
            undo.pop_all()
        self._announcer.wait(PRINTED_WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def logs(self) -> Path:
        """Folder of the programs' logs."""
        return self.settings.state_dir / LOGS

    @property
    def num_restarts(self) -> int:
        """How often a program ended and was restarted, or waits to be restarted."""
        return self._supervisor.num_restarts

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """The running processes by name."""
        return self._supervisor.processes

    def wait(self, stop: threading.Event) -> None:
        """Checks the stack until `stop` is set."""
        while not stop.wait(POLL_INTERVAL_S):
            self.check()

    def check(self) -> None:
        """Follows the file of the signing keys, and checks the disk.

        Raises StackFailed if a program has ended fatally, which is possible only until all programs are ready.
        """
        self._supervisor.check()
        self._follow_keys()
        self._check_disk()

    def stop(self, *names: str) -> None:
        """Ends the named programs for good."""
        self._supervisor.stop(*names, grace_s=STOP_GRACE_S)

    def memory(self) -> dict[str, int]:
        """Returns the memory in bytes of each program with its descendants, and of this process alone (`this`)."""
        used = resident_bytes({name: process.pid for name, process in self.processes.items()})
        return used | {"this": resident_bytes({"all": os.getpid()})["all"] - sum(used.values())}

    def close(self) -> None:
        """Ends all programs, each before the programs that it depends on. Data stays in the state folder."""
        self._closing.set()
        if self._is_announced:
            remove_announcement(self._announce_in)
            self._is_announced = False
        # Replicas are stopped last, so that they answer until the end.
        self.stop(*(name for name in self._commands if name not in GUARDED))
        self.stop(*GUARDED)
        self.stop("broker", "redis")
        self._supervisor.close()
        self._servers.stop()
        while self._claims:
            self._claims.pop().close()
        self._announcer.wait(PRINTED_WITHIN_S)

    def _start(self) -> None:
        self._claim()
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        learners = (program_name("learner", task) for task in self.settings.tasks)
        for folder in ("redis", "kafka", "learner", *learners, LOGS):
            private_folder(self.settings.state_dir / folder)
        settings = self._servers.start(self.settings)
        is_ours = self._servers.owns_store
        self.settings = with_signing_key(settings, own_store=is_ours)
        replica_keys = ReplicaKeys(self.settings)
        self._follow_keys = replica_keys.follow
        self._choose_port()
        with contextlib.ExitStack() as opened:
            stores = open_stores(self.settings, opened)
            store = stores[DEFAULT]
            if not is_ours and (why_not_durable := store.why_not_durable()):
                self._announcer.say(f"{why_not_durable}.")
            # Reports of an earlier stack may not have expired yet. They do not show that a replica of ours is ready.
            reports = self._servers.request(store.reports.replicas, is_ours=is_ours, deadline_s=deadline_s)
            # Programs start while the broker may still be starting: they wait for it and for their topics.
            for name in self._commands:
                self._supervisor.add(self._program(name, replica_keys))
            self._servers.create_topics(self.settings.bus, deadline_s=deadline_s)
            is_ready = threading.Event()
            opened.callback(is_ready.set)
            self._servers.warm_up(self.settings.bus, is_over=is_ready)
            self._wait_until_ready(stores, {report.replica for report in reports}, deadline_s)
        self._supervisor.tolerate()
        announce(self.settings, self._announce_in, owns_store=is_ours)
        self._is_announced = True

    def _claim(self) -> None:
        for folder in dict.fromkeys((self.settings.state_dir, self._announce_in)):
            lock = claim(folder)
            if lock is None:
                raise StackFailed(
                    f"a stack already runs in {folder}: stop it, or choose another folder with --set state_dir=FOLDER"
                )
            self._claims.append(lock)

    def _choose_port(self) -> None:
        serving = self.settings.serving
        if not self._is_port_free():
            port = children.free_port()
            self._announcer.say(f"HTTP: port {serving.http_port} is taken, so {port}")
            self.settings = replaced(self.settings, {"serving.http_port": port})

    def _is_port_free(self) -> bool:
        """Returns whether no process listens on the HTTP port. `serve` reports any other error of the address."""
        try:
            check_port(self.settings.serving.http_host, self.settings.serving.http_port)
        except PortTaken:
            return False
        except OSError:
            return True
        return True

    def _program(self, name: str, replica_keys: ReplicaKeys) -> Program:
        words, task = self._commands[name]
        argv = [sys.executable, "-P", "-m", "services.cli", *words, "--config", os.devnull]
        command = guarded(argv) if name in GUARDED else argv
        log = RotatingLog(self.logs / f"{name}.log")
        settings = replica_keys.replica_settings(self.settings) if name == "serve" else self.settings
        start = partial(children.start, command, log=log, env=as_environment(settings) | {TASK_VARIABLE: task})
        if name != "serve":
            return Program(name=name, start=start, log=log)
        return Program(name=name, start=start, log=log, may_start=self._is_port_free)

    def _wait_until_ready(self, stores: Mapping[str, Store], earlier: Set[str], deadline_s: float) -> None:
        """Waits until each task has a plan, and the configured number of replicas can answer."""
        while name := self._unready_program(stores, earlier):
            self.check()
            if time.monotonic() > deadline_s:
                raise StackFailed(f"{name} is not ready after {READY_TIMEOUT_S:.0f} s{self._supervisor.ending(name)}")
            self._closing.wait(POLL_INTERVAL_S)

    def _unready_program(self, stores: Mapping[str, Store], earlier: Set[str]) -> str:
        """Returns the name of a program that is not ready; empty if all are ready."""
        replicas = self.settings.serving.replicas
        try:
            return next(unready_programs(stores, replicas=replicas, earlier=earlier), "")
        except StoreUnavailable:
            return "redis"

    def _check_disk(self) -> None:
        folder = self.settings.state_dir
        try:
            free = shutil.disk_usage(folder).free
        except OSError:
            return
        is_low = free < (ENOUGH_BYTES if self._is_disk_low else LOW_BYTES)
        if is_low == self._is_disk_low:
            return
        self._is_disk_low = is_low
        if is_low:
            self._announcer.say(
                f"The disk of {folder} is full ({free >> 20} MiB free): answers go on, and nothing new is published "
                "until there is space"
            )
        else:
            self._announcer.say(f"There is space again on the disk of {folder}: everything goes on")
            self._supervisor.skip_backoff()


class Announcer:
    """Prints messages in its own thread. Verbs: say, wait.

    `print_line` prints one message. If it raises OSError (a closed output) or ValueError (an encoding that lacks a
    character), only this message is lost.
    """

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line
        self._waiting: queue.Queue[str | threading.Event] = queue.Queue(MAX_WAITING)
        self._num_dropped = 0
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()

    def say(self, message: str) -> None:
        """Queues a message, without waiting. If the queue is full, the message is dropped and counted."""
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._num_dropped += 1

    def wait(self, timeout_s: float) -> None:
        """Returns when all messages so far are printed, or after `timeout_s`."""
        printed = threading.Event()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(printed)
            printed.wait(timeout_s)

    def _run(self) -> None:
        """Prints messages until the process ends.

        consumes: messages
        produces: lines of the output
        waits for: a message, the terminal
        unblocked by: say, the reader of the output
        """
        while True:
            message = self._waiting.get()
            if isinstance(message, threading.Event):
                message.set()
                continue
            self._print(message)
            if self._num_dropped and self._waiting.empty():
                num_dropped = self._num_dropped
                self._num_dropped = 0
                self._print(f"{num_dropped} messages were dropped while nothing could be printed: see the logs")

    def _print(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._print_line(message)
