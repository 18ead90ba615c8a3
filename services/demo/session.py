"""One stream, played on a service that runs.

Player, Labeller and Watcher side by side --> all stages done --> answers read back --> Figures
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import psutil
from rich.console import Console

from services.demo.curve import Point
from services.demo.figures import Figures, figures
from services.demo.hands import Hands, Limits
from services.demo.labeller import Labeller, delays
from services.demo.ledger import Ledger
from services.demo.loops import Loops
from services.demo.outbox import Outbox
from services.demo.player import Player
from services.demo.readback import read_back
from services.demo.report import Mark
from services.demo.sight import Watcher
from services.demo.stream import Stream
from services.demo.view import View
from services.rollout.operator import Operator
from services.rollout.plans import NotPossible
from wire.bus import Bus
from wire.clock import now_ms
from wire.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Tempo:
    """How a stream is played: events a second, seconds until a label comes back, the seed of both, and patience.

    Without `labels` nobody says what is right, so nothing is learned. Who reads the answers patiently sees them a tenth
    of a second late, and leaves more of the machine to the service.
    """

    rate: float
    label_delay_s: tuple[float, float] = (1.0, 4.0)
    seed: int = 0
    labels: bool = True
    is_patient: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session came to, and what the picture is drawn of."""

    figures: Figures
    curve: list[Point]
    tests: list[Point]
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part in a session."""

    ledger: Ledger
    watcher: Watcher
    player: Player


def play(
    bus: Bus, store: Store, stream: Stream, tempo: Tempo, *, console: Console, check: Callable[[], None]
) -> Outcome:
    """Plays `stream` to its end; `check` raises when the service has ended."""
    with assembled(bus, store, stream, tempo, console=console, check=check) as cast:
        cast.player.run(stream, rate=tempo.rate)
    return _outcome(bus, cast)


@contextmanager
def assembled(
    bus: Bus, store: Store, stream: Stream, tempo: Tempo, *, console: Console, check: Callable[[], None]
) -> Iterator[Cast]:
    """Everybody at work but the player, who waits for what to play."""
    ledger, watcher, outbox = Ledger(_new_run()), Watcher(store), Outbox(bus.publisher())
    draw = partial(delays, seed=tempo.seed, between_s=tempo.label_delay_s)
    labeller = Labeller(
        bus,
        ledger,
        outbox,
        delays=draw if tempo.labels else lambda _: (),
        now_ms=now_ms,
        is_patient=tempo.is_patient,
    )
    view, loops = View(console, stream, ledger, watcher), Loops(labeller, watcher)

    def check_all() -> None:
        outbox.check()
        loops.check()
        check()

    hands = Hands(
        began_ms=round(1000 * psutil.Process().create_time()),
        now_ms=now_ms,
        say=view.say,
        check=check_all,
        promote=partial(_promote, store),
    )
    with loops, view:
        yield Cast(ledger, watcher, Player(ledger, watcher, outbox, hands, limits=tempo.limits, seed=tempo.seed))


def _promote(store: Store, version: int) -> None:
    with suppress(NotPossible):  # the controller was faster
        Operator(store, name="the demo").promote(version, now_ms=now_ms())


def _outcome(bus: Bus, cast: Cast) -> Outcome:
    ledger, sight = cast.ledger, cast.watcher.sight()
    back = read_back(bus, ledger)
    first_ms = ledger.progress().first_ms
    marks = [((moment_ms - ledger.started_ms) / 1000, arm) for (arm, _), moment_ms in first_ms.items()]
    found = figures(ledger, sight, back.found, dead_letters=back.dead_letters)
    return Outcome(found, ledger.curve(), ledger.tests(), sorted(marks))


def _new_run() -> str:
    return f"{now_ms():x}{secrets.token_hex(2)}"
