"""Where it happens: a service that runs, whose processes can be found, and what can go wrong with them."""

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.chaos.faults import FaultKind, Kill, Pause, Pids
from bench.chaos.size import SceneSize
from services.settings import Settings, load

SHORTEST_S = 2.0
"""A fault that lasts, lasts so long at least."""

SMALL: dict[str, Any] = {
    "seed": 0,
    "learner.seed": 0,
    "learner.trainable_layers": 1,
    "learner.slow_every_labels": 1_000,
    "learner.replay_samples": 5_000,
    "learner.num_features": 512,
    "learner.rehearse_after_s": 0.0,
    "learner.learn_unlabelled": False,
    "learner.labels.trust.flip_alarm": False,
    "learner.labels.trust.require_receipts": True,
    "learner.accuracy_tolerance": 1.0,
    "learner.max_negative_flips": 1.0,
    "learner.max_head_update": 1e6,
    "learner.max_top_update": 1e6,
    "learner.max_refusals": 1_000_000,
    "rollout.min_labels": 20,
    "rollout.margin": 0.5,
}
"""What both scenes are set to. The model and its rounds are small; and neither gate nor rollout nor alarm holds labels
or sets them aside, which they rightly do by when they look, and an undisturbed learner looks at other moments."""


class Scene(Protocol):
    """A service under test. `check` is called all the time, from the thread that calls `start`."""

    name: str

    @property
    def num_ended(self) -> int:
        """How often it ended by itself, and somebody had to start it again."""

    def start(self) -> None:
        """Returns when it would answer."""

    def check(self) -> None:
        """Starts again what has ended and nobody else starts."""

    def where(self) -> Settings:
        """The settings under which the load reaches it, addresses included. Any thread may call."""

    def kinds(self) -> list[FaultKind]:
        """What can go wrong here."""

    def missing(self) -> list[str]:
        """What cannot be made to go wrong here, and why."""

    def restart(self) -> None:
        """Ends it and starts it again, as an operator would who does not know what else to do."""

    def close(self) -> None: ...


def small(**changes: object) -> Settings:
    """The settings of a scene, checked as those of a command line are. `store__url` is `store.url`."""
    named = {**SMALL, **{name.replace("__", "."): value for name, value in changes.items()}}
    flags = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in named.items()]
    return load(file=Path(os.devnull), environ={}, flags=flags).settings


def lasting(rng: random.Random, size: SceneSize) -> float:
    """How long a fault lasts."""
    return round(rng.uniform(SHORTEST_S, size.longest_s), 1)


def kill_of(role: str, pids: Pids, again: Callable[[], None] = lambda: None) -> FaultKind:
    return FaultKind(f"kill {role}", lambda _: Kill(role, pids, again), is_kill=True)


def pause_of(role: str, pids: Pids, size: SceneSize) -> FaultKind:
    return FaultKind(f"pause {role}", lambda rng: Pause(role, pids, lasting(rng, size)))


def chosen(kinds: Sequence[FaultKind], only: str) -> list[FaultKind]:
    """All kinds, or those whose name has `only` in it."""
    return [kind for kind in kinds if only in kind.name]
