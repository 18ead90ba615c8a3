"""Defines a scene: a running service whose processes can be found, and what can go wrong with them.

Its API keys are two: that of the load, and that of the client that attacks.

Rejected: faults that know their scene. What differs between scenes is how processes are found and started again.
"""

import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from bench.chaos import programs
from bench.chaos.attacker import Attacker
from bench.chaos.faults import (
    TOXICS,
    Attack,
    Cut,
    DamagedBlob,
    FaultKind,
    FlushAll,
    Kill,
    Maintenance,
    Pause,
    Pids,
    Toxic,
    WrongClock,
)
from bench.chaos.sandbox import Clock
from bench.chaos.size import SceneSize
from bench.chaos.synced import LostTails
from bench.chaos.toxiproxy import Proxy
from bench.harness.settings import loaded
from services.settings import Settings
from serving.http.access import Role, create_key
from wire.timestamps import now_ms

SOURCE = "chaos"
"""That of the labels of the load, and of its events over Kafka; it is the name of its API key, too."""

Missing: TypeAlias = Literal["namespaces", "compiler"]
"""What a fault needs and a machine may not have."""

JUMPS_S = (3_600, -3_600, 86_400, -86_400)

HELD_S = 60.0
"""How long all labels are held back, to come at once: twice as long as answers wait for them at the usual rate."""

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
"""The settings of both scenes. The model and its rounds are small. The gate, the rollout and the alarm are set to hold
back no labels: their decisions depend on when they are made, and the undisturbed learner makes them at other times."""


class Scene(Protocol):
    """A service under test. `check` is called all the time, from the thread that calls `start`."""

    name: str

    @property
    def api_keys(self) -> "ApiKeys":
        """The keys that HTTP asks for."""

    @property
    def lost(self) -> LostTails:
        """What power cuts have taken so far."""

    @property
    def num_ended(self) -> int:
        """How often the service ended by itself, and had to be restarted from outside."""

    def start(self) -> None:
        """Starts the service; returns when it can answer."""

    def check(self) -> None:
        """Restarts what has ended and has no supervisor."""

    def settings(self) -> Settings:
        """Returns the settings by which the load reaches the service, addresses included. Any thread may call."""

    def kinds(self) -> list[FaultKind]:
        """Returns the kinds of faults that are possible here."""

    def missing(self) -> dict[Missing, str]:
        """Returns the faults that are not possible here, and why, by what is missing."""

    def restart(self) -> None:
        """Ends the service and starts it again, as an operator would who does not know what else to do."""

    def close(self) -> None: ...


def scene_settings(**changes: object) -> Settings:
    """Makes the settings of a scene, checked as those of a command line are. `store__url` is `store.url`."""
    named = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    return loaded(named, file=Path(os.devnull), environ={}).settings


def lasting(rng: random.Random, size: SceneSize) -> float:
    """Draws how long a fault lasts, in seconds."""
    return round(rng.uniform(size.shortest_s, size.longest_s), 1)


def kill_of(role: str, pids: Pids, restart: Callable[[], None] = lambda: None) -> FaultKind:
    return FaultKind(f"kill {role}", lambda _: Kill(role, pids, restart), family="kill")


def pause_of(role: str, pids: Pids, size: SceneSize) -> FaultKind:
    return FaultKind(f"pause {role}", lambda rng: Pause(role, pids, lasting(rng, size)))


def late_labels_of(hold: Callable[[], str], release: Callable[[], None]) -> FaultKind:
    return FaultKind("late labels", lambda _: Maintenance("late labels", hold, release, HELD_S))


def flushall_of(settings: Callable[[], Settings]) -> FaultKind:
    return FaultKind("FLUSHALL", lambda _: FlushAll(settings))


def damaged_blob_of(settings: Callable[[], Settings], replicas: Pids) -> FaultKind:
    def make(rng: random.Random) -> DamagedBlob:
        return DamagedBlob(settings, Kill(programs.REPLICA, replicas), rng.random())

    return FaultKind("damaged blob", make)


def network_of(connections: dict[str, list[Proxy]], size: SceneSize) -> list[FaultKind]:
    """Makes a kind for each thing that can happen to a connection. The connection is drawn."""
    if not connections:
        return []

    def cut(rng: random.Random) -> Cut:
        name = rng.choice(sorted(connections))
        return Cut(name, connections[name], lasting(rng, size))

    def toxic(what: str, rng: random.Random) -> Toxic:
        name = rng.choice(sorted(connections))
        kind, attributes = TOXICS[what]
        return Toxic(what, name, connections[name], kind, attributes, lasting(rng, size))

    return [FaultKind("cut", cut), *(FaultKind(what, partial(toxic, what)) for what in TOXICS)]


def wrong_clock_of(role: str, wrong: Clock, size: SceneSize) -> FaultKind:
    name = f"wrong clock {role}"
    return FaultKind(name, lambda rng: WrongClock(role, wrong, rng.choice(JUMPS_S), lasting(rng, size)))


def chosen(kinds: Sequence[FaultKind], only: str) -> list[FaultKind]:
    """Returns the kinds whose name contains one of the words of `only`, split at commas; all where it is empty."""
    words = re.compile("|".join(map(re.escape, only.split(","))))
    return [kind for kind in kinds if words.search(kind.name)]


ROLES = (Role.PREDICT, Role.FEEDBACK)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys, and the file that has their digests. `breaches` are what the service took from the attacker wrongly."""

    file: Path
    load: str
    attacker: str
    breaches: list[str]

    def kind(self, settings: Settings, size: SceneSize) -> FaultKind:
        serving = settings.serving
        url = f"http://{serving.http_host}:{serving.http_port}"

        def make(rng: random.Random) -> Attack:
            seed = rng.randrange(1 << 30)
            return Attack(lambda: Attacker(url, self.attacker, seed), self.breaches.extend, lasting(rng, size))

        return FaultKind("attack", make)


def api_keys(folder: Path) -> ApiKeys:
    """Makes the keys in a new file. The source of an event over HTTP is the name of its key."""
    file = folder / "api-keys.json"
    folder.mkdir(parents=True, exist_ok=True)
    _, load = create_key(file, SOURCE, ROLES, now_ms=now_ms())
    _, attacker = create_key(file, "mallory", ROLES, now_ms=now_ms())
    return ApiKeys(file, load, attacker, breaches=[])
