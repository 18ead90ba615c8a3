"""One stream, played on a service that runs.

Player, Labeller and Watcher side by side --> all stages done --> answers read back --> Figures
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import psutil

from evals.load.callbacks import Callbacks, Patience
from evals.load.curve import Point
from evals.load.figures import Figures, Mark, figures
from evals.load.labeller import Labeller, delays
from evals.load.ledger import Ledger
from evals.load.loops import Loops
from evals.load.outbox import LoadOutbox
from evals.load.player import Player
from evals.load.readback import read_back
from evals.load.watcher import Watcher
from evals.streams.stream import Stream
from rollout.operator import Operator
from rollout.plans import NotPossible
from wire.bus import Bus
from wire.clock import now_ms
from wire.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadProfile:
    """How a stream is played: events a second, seconds until a label comes back, the seed of both, and patience.

    Without `labels` nobody says what is right, so nothing is learned. Who reads the answers patiently sees them a tenth
    of a second late, and leaves more of the machine to the service.
    """

    rate: float
    label_delay_s: tuple[float, float] = (1.0, 4.0)
    seed: int = 0
    labels: bool = True
    is_patient: bool = False
    limits: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """What a session came to, and what the picture is drawn of."""

    figures: Figures
    curve: list[Point]
    tests: list[Point]
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Participants:
    """Who takes part in a session."""

    ledger: Ledger
    watcher: Watcher
    player: Player


Watching: TypeAlias = Callable[[Participants], AbstractContextManager[object]]
"""Shows a session to somebody while it goes on, from entering to leaving."""


def unwatched(_cast: Participants) -> AbstractContextManager[object]:
    """Nobody looks."""
    return nullcontext()


def play(
    bus: Bus,
    store: Store,
    stream: Stream,
    tempo: LoadProfile,
    *,
    say: Callable[[str], None],
    check: Callable[[], None],
    watching: Watching = unwatched,
) -> SessionOutcome:
    """Plays `stream` to its end; `check` raises when the service has ended, and `say` takes lines for a human."""
    with assembled(bus, store, tempo, say=say, check=check) as cast, watching(cast):
        cast.player.run(stream, rate=tempo.rate)
    return _outcome(bus, cast)


@contextmanager
def assembled(
    bus: Bus, store: Store, tempo: LoadProfile, *, say: Callable[[str], None], check: Callable[[], None]
) -> Iterator[Participants]:
    """Everybody at work but the player, who waits for what to play."""
    ledger = Ledger(_new_run())
    watcher = Watcher(store)
    outbox = LoadOutbox(bus.publisher())
    draw = partial(delays, seed=tempo.seed, between_s=tempo.label_delay_s)
    labeller = Labeller(
        bus,
        ledger,
        outbox,
        delays=draw if tempo.labels else lambda _: (),
        now_ms=now_ms,
        is_patient=tempo.is_patient,
    )
    loops = Loops(labeller, watcher)

    def check_all() -> None:
        outbox.check()
        loops.check()
        check()

    hands = Callbacks(
        began_ms=round(1000 * psutil.Process().create_time()),
        now_ms=now_ms,
        say=say,
        check=check_all,
        promote=partial(_promote, store),
    )
    with loops:
        yield Participants(
            ledger, watcher, Player(ledger, watcher, outbox, hands, limits=tempo.limits, seed=tempo.seed)
        )


def _promote(store: Store, version: int) -> None:
    with suppress(NotPossible):  # the controller was faster
        Operator(store, name="the demo").promote(version, now_ms=now_ms())


def _outcome(bus: Bus, cast: Participants) -> SessionOutcome:
    ledger = cast.ledger
    sight = cast.watcher.sight()
    back = read_back(bus, ledger)
    first_ms = ledger.progress().first_ms
    marks = [((moment_ms - ledger.started_ms) / 1000, arm) for (arm, _), moment_ms in first_ms.items()]
    found = figures(ledger, sight, back.found, dead_letters=back.dead_letters)
    return SessionOutcome(found, ledger.curve(), ledger.tests(), sorted(marks))


def _new_run() -> str:
    return f"{now_ms():x}{secrets.token_hex(2)}"
