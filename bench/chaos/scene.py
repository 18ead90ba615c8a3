"""Defines a scene: a running service whose processes can be found, and the faults that can be injected into it.

A scene has two API keys: one for the load and one for the client that attacks.
"""

import os
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from bench.chaos import programs
from bench.chaos.attacker import Attacker
from bench.chaos.faults import (
    POWER_CUT,
    Fault,
    FaultKind,
    Pids,
    attack,
    damaged_blob,
    do_nothing,
    draw_duration_s,
    flushall,
    kill,
    pause,
    power_cut,
    wrong_clock,
)
from bench.chaos.power import PowerSupply
from bench.chaos.sandbox import Clock
from bench.chaos.size import SceneSize
from bench.chaos.synced import LostTails
from bench.harness.service import apache_kafka
from bench.harness.settings import load_settings
from services.settings import Settings
from serving.http.access import Role, create_key
from wire.timestamps import now_ms

SOURCE = "chaos"
"""The source of the load's labels and of its events over Kafka, and the name of its API key."""

READY_S = 600.0
STOP_S = 30.0
POLL_INTERVAL_S = 0.1

Missing: TypeAlias = Literal["namespaces", "compiler"]
"""A facility that some faults need and a machine may lack."""

JUMPS_S = (3_600, -3_600, 86_400, -86_400)

HELD_S = 60.0
"""How long all labels are held back before they come at once: twice as long as answers wait at the usual rate."""

SMALL: dict[str, Any] = {
    "seed": 0,
    "learner.trainable_layers": 1,
    "learner.slow_every_labels": 1_000,
    "learner.replay_samples": 5_000,
    "learner.num_features": 512,
    "learner.pending_bytes": 2 << 20,
    "learner.rehearse_after_s": 0.0,
    "learner.learn_unlabelled": False,
    "learner.trust.flip_alarm": False,
    "learner.trust.require_receipts": True,
    "learner.accuracy_tolerance": 1.0,
    "learner.max_negative_flips": 1.0,
    "learner.max_head_update": 1e6,
    "learner.max_top_update": 1e6,
    "learner.max_refusals": 1_000_000,
    "rollout.min_labels": 20,
    "rollout.margin": 0.5,
}
"""The settings of both scenes. The model and its rounds are small. The gate, the rollout and the alarm hold back no
version and no label, because their decisions depend on the time, which differs for the undisturbed learner."""


class Scene(Protocol):
    """A service under test. The thread that calls `start` also calls `check`, several times a second."""

    name: str

    @property
    def api_keys(self) -> "ApiKeys":
        """The API keys that the service accepts."""

    @property
    def lost(self) -> LostTails:
        """The records that power cuts have taken so far."""

    @property
    def num_unexpected_ends(self) -> int:
        """How often the service ended without being killed, and had to be restarted from outside."""

    def start(self) -> None:
        """Starts the service; returns when it can answer."""

    def check(self) -> None:
        """Restarts programs that have ended and have no supervisor."""

    def is_whole(self) -> bool:
        """Returns whether every replica answers. The service can answer before that."""

    def settings(self) -> Settings:
        """Returns the settings with which the load reaches the service, addresses included. Any thread may call."""

    def kinds(self) -> list[FaultKind]:
        """Returns the kinds of faults that are possible on this machine."""

    def missing(self) -> dict[Missing, str]:
        """Returns a dictionary: missing facility -> the faults that are therefore not possible, and why."""

    def restart(self) -> None:
        """Stops the service and starts it again, as an operator would in the last resort."""

    def close(self) -> None: ...


class Machine:
    """The base of both scenes: a folder on a machine whose power can be cut, and API keys.

    Raises Skip if there is no Apache Kafka.
    """

    def __init__(self, folder: Path, size: SceneSize, say: Callable[[str], None]) -> None:
        self.home = apache_kafka()
        self._folder = folder
        self._size = size
        self._say = say
        self.api_keys = api_keys(folder / "logs")
        self._power = PowerSupply(folder, is_used=size.cuts > 0)

    @property
    def lost(self) -> LostTails:
        return self._power.lost

    def check(self) -> None:
        self._power.check()

    def is_whole(self) -> bool:
        return True

    def await_ready(self, is_ready: Callable[[], bool], what: str, logs: Sequence[Path]) -> None:
        """Waits until `is_ready`. Raises RuntimeError, with the last lines of the logs, after READY_S seconds."""
        deadline_s = time.monotonic() + READY_S
        while not is_ready():
            self.check()
            if time.monotonic() > deadline_s:
                last_lines = ", ".join(programs.last_line(log) for log in logs)
                raise RuntimeError(f"{what} is not ready after {READY_S:g} s: {last_lines}")
            # Neither the store nor a file can notify us.
            time.sleep(POLL_INTERVAL_S)


def scene_settings(**changes: object) -> Settings:
    """Returns the validated settings of a scene: SMALL with `changes`, where `store__url` stands for `store.url`."""
    values = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    return load_settings(values, file=Path(os.devnull), environ={}).settings


def kill_kind(role: str, pids: Pids, restart: Callable[[], None] = do_nothing) -> FaultKind:
    return FaultKind(f"kill {role}", lambda _: kill(role, pids, restart), family="kill")


def pause_kind(role: str, pids: Pids, size: SceneSize) -> FaultKind:
    return FaultKind(f"pause {role}", lambda rng: pause(role, pids, draw_duration_s(rng, size)))


def power_cut_kind(role: str, cut: Callable[[], str], pids: Pids) -> FaultKind:
    return FaultKind(f"{POWER_CUT} {role}", lambda _: power_cut(role, cut, pids), family="cut")


def late_labels_kind(hold: Callable[[], str], release: Callable[[], None]) -> FaultKind:
    return FaultKind("late labels", lambda _: Fault("late labels", hold, release, HELD_S))


def store_kinds(settings: Callable[[], Settings], replicas: Pids) -> list[FaultKind]:
    """Returns the kinds of faults that damage the data in Redis."""

    def damaged(rng: random.Random) -> Fault:
        return damaged_blob(settings, kill(programs.REPLICA, replicas), rng.random())

    return [FaultKind("damaged blob", damaged), FaultKind("FLUSHALL", lambda _: flushall(settings))]


def wrong_clock_kind(role: str, clock: Clock, size: SceneSize) -> FaultKind:
    def make(rng: random.Random) -> Fault:
        return wrong_clock(role, clock, rng.choice(JUMPS_S), draw_duration_s(rng, size))

    return FaultKind(f"wrong clock {role}", make)


def select_kinds(kinds: Sequence[FaultKind], only: str) -> list[FaultKind]:
    """Returns the kinds whose name contains one of the words in `only`, split at commas; all kinds if it is empty."""
    words = re.compile("|".join(map(re.escape, only.split(","))))
    return [kind for kind in kinds if words.search(kind.name)]


ROLES = (Role.PREDICT, Role.FEEDBACK)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys, and the file with their digests. `breaches` lists the attacker's accepted requests."""

    file: Path
    load: str
    attacker: str
    breaches: list[str]

    def kind(self, settings: Settings, size: SceneSize) -> FaultKind:
        serving = settings.serving
        url = f"http://{serving.http_host}:{serving.http_port}"

        def make(rng: random.Random) -> Fault:
            attacker = Attacker(url, self.attacker, rng.randrange(1 << 30))
            return attack(attacker, self.breaches.extend, draw_duration_s(rng, size))

        return FaultKind("attack", make)


def api_keys(folder: Path) -> ApiKeys:
    """Creates the keys in a new file. The source of an event over HTTP is the name of its key."""
    file = folder / "api-keys.json"
    folder.mkdir(parents=True, exist_ok=True)
    _, load = create_key(file, SOURCE, ROLES, now_ms=now_ms())
    _, attacker = create_key(file, "mallory", ROLES, now_ms=now_ms())
    return ApiKeys(file, load, attacker, breaches=[])
