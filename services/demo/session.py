"""One stream, played on a service that runs.

Player, Labeller and Watcher side by side --> all stages done --> answers read back --> Figures
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import psutil
from rich.console import Console

from services.demo.curve import Point
from services.demo.figures import Figures, figures
from services.demo.labeller import Labeller, delays
from services.demo.ledger import Ledger
from services.demo.loops import Loops
from services.demo.outbox import Outbox
from services.demo.player import Hands, Limits, Player
from services.demo.readback import read_back
from services.demo.report import Mark
from services.demo.sight import Watcher
from services.demo.stream import Stream
from services.demo.view import View
from services.rollout.operator import Operator
from services.rollout.plans import NotPossible
from wire.bus import Bus
from wire.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Tempo:
    """How a stream is played: events a second, seconds until a label comes back, the seed of both, and patience."""

    rate: float
    label_delay_s: tuple[float, float]
    seed: int
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session came to, and what the picture is drawn of."""

    figures: Figures
    curve: list[Point]
    marks: list[Mark]


def play(
    bus: Bus, store: Store, stream: Stream, tempo: Tempo, *, console: Console, check: Callable[[], None]
) -> Outcome:
    """Plays `stream` to its end; `check` raises when the service has ended."""
    ledger, watcher, outbox = Ledger(_new_run()), Watcher(store), Outbox(bus.publisher())
    view = View(console, stream, ledger, watcher)
    labeller = Labeller(
        bus,
        ledger,
        outbox,
        delays=partial(delays, seed=tempo.seed, between_s=tempo.label_delay_s),
        now_ms=now_ms,
    )
    loops = Loops(labeller, watcher)

    def check_all() -> None:
        outbox.check()
        loops.check()
        check()

    with loops, view:
        hands = Hands(
            now_ms=now_ms,
            began_ms=round(1000 * psutil.Process().create_time()),
            say=view.say,
            check=check_all,
            promote=lambda version: _promote(store, version),
        )
        Player(ledger, watcher, outbox, hands, limits=tempo.limits, seed=tempo.seed).run(stream, rate=tempo.rate)
    return _outcome(bus, ledger, watcher)


def now_ms() -> int:
    """The clock that every process of one machine shares."""
    return time.time_ns() // 1_000_000


def _promote(store: Store, version: int) -> None:
    with suppress(NotPossible):  # the controller was faster
        Operator(store, name="the demo").promote(version, now_ms=now_ms())


def _outcome(bus: Bus, ledger: Ledger, watcher: Watcher) -> Outcome:
    back = read_back(bus, ledger)
    first_ms = ledger.progress().first_ms
    marks = [((moment_ms - ledger.started_ms) / 1000, arm) for (arm, _), moment_ms in first_ms.items()]
    found = figures(ledger, watcher.sight(), back.found, dead_letters=back.dead_letters)
    return Outcome(found, ledger.curve(), sorted(marks))


def _new_run() -> str:
    return f"{now_ms():x}{secrets.token_hex(2)}"
