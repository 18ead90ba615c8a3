"""A process that owns a stack, with its descendants."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from services.local.children import free_port
from tests.services.command_line import lifelong
from tests.services.http_client import ask
from tests.waiting import eventually, in_time

DEADLINE_S = 120.0
LEARNT_S = 15.0

UP = [sys.executable, "-m", "services.cli", "up"]

COMMANDS = {"learner": "learn", "rollout": "rollout", "serve": "serve"}
SERVERS = {"redis": ("redis-server",), "broker": ("tansu", "java")}


@dataclass
class Owner:
    """A process that runs a stack with its state in `folder` and HTTP on `port`; `said` has its output by line."""

    process: "subprocess.Popen[str]"
    folder: Path
    port: int
    said: list[str] = field(default_factory=list)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def pids(self, name: str) -> list[int]:
        """Returns the processes of a program of the stack; `guard` names the two guards, the outer one first."""
        return [process.pid for process in self.family() if _is(process, name)]

    def kill(self, name: str, *, index: int = 0) -> int:
        """Kills a process of the program as soon as there is one; returns its id."""
        eventually(lambda: len(self.pids(name)) > index)
        pid = self.pids(name)[index]
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in self.pids(name))
        return pid

    def ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command, as in another terminal."""
        return lifelong(*words, LIFELONG_STATE_DIR=str(self.folder))

    def learnt(self) -> int:
        """Returns the number of learnt labels in the learner's report; -1 while there is none."""
        done = self.ask("rollout", "status", "--json")
        report = json.loads(done.stdout)["learner"] if done.returncode == 0 else None
        return report["counts"].get("learnt", 0) if report else -1

    def learns(self) -> bool:
        """Whether the label of a new answer is learnt within LEARNT_S."""
        before = self.learnt()
        answer = ask(self.port)
        if before < 0 or answer is None:
            return False
        sent = self.ask("feedback", answer["event_id"], "delivery", "--receipt", answer["receipt"])
        return sent.returncode == 0 and in_time(lambda: self.learnt() > before, within_s=LEARNT_S)

    def lines(self, part: str) -> list[str]:
        """Returns the lines of its output that contain `part`."""
        return [line for line in self.said if part in line]

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip())


def _is(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.Error):  # gone, or a zombie, which has no command any more
        if name in SERVERS:
            return process.name() in SERVERS[name]
        command = process.cmdline()
        if name == "guard":
            return command[1:4] == ["-P", "-m", "services.local.children"]
        return command[3:5] == ["services.cli", COMMANDS[name]]
    return False


@contextmanager
def owning(argv: list[str], folder: Path, **environ: str) -> Iterator[Owner]:
    """Runs `argv` during the block, which begins when the stack has reported that it is ready."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("KAFKA_HOME", "LIFELONG_STATE_DIR")}
    port = free_port()
    changes = {"LIFELONG_STATE_DIR": str(folder), "LIFELONG_SERVING__HTTP_PORT": str(port)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=inherited | changes | environ) as process:
        owner = Owner(process, folder, port)
        listening = threading.Thread(target=owner.listen)
        listening.start()
        try:
            eventually(lambda: bool(owner.lines("Ready")) or not listening.is_alive(), within_s=180.0)
            assert owner.lines("Ready"), f"never ready: {owner.said}"
            yield owner
        finally:
            process.kill()
            listening.join()


def gone(family: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
