"""Plays one stream on a running service.

Player, Labeller and Watcher side by side --> all stages done --> answers read back --> Figures

Rejected: players of one process each. Their clocks would be their own, and the ledger would need a server.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import psutil

from evals.load.callbacks import Callbacks, Timeouts
from evals.load.curve import Point
from evals.load.figures import Figures, Mark, figures
from evals.load.labeller import Labeller, delays
from evals.load.ledger import Ledger
from evals.load.loops import Loops
from evals.load.oracle import PrequentialFigures, replay
from evals.load.outbox import LoadOutbox
from evals.load.player import Player
from evals.load.readback import read_back
from evals.load.reference import ReferenceEncoder
from evals.load.watcher import Watcher
from evals.streams.stream import Stream
from wire.bus import Bus
from wire.clock import now_ms
from wire.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadProfile:
    """How a stream is played."""

    rate: float
    """Events a second."""
    label_delay_s: tuple[float, float] = (1.0, 4.0)
    """The bounds of the seconds from an answer to its label."""
    seed: int = 0
    labels: bool = True
    """Whether labels are sent. Without them nothing is learnt."""
    is_patient: bool = False
    """Whether answers are read a moment late, which leaves more of the machine to the service."""
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemUnderTest:
    """The running service that a stream is played on."""

    bus: Bus
    store: Store
    check: Callable[[], None]
    """Raises when the service has ended."""
    num_restarts: Callable[[], int]
    """Counts the programs of the service that were started again."""


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """The figures of a session, and the points of its picture."""

    figures: Figures
    curve: list[Point]
    """Accuracy over time of the answers as given."""
    beside: Mapping[str, list[Point]]
    """Accuracy over time of what the answers are compared with, by name."""
    tests: list[Point]
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Participants:
    """The participants of a session that a caller may use."""

    ledger: Ledger
    watcher: Watcher
    player: Player


Watching: TypeAlias = Callable[[Participants], AbstractContextManager[object]]
"""Shows a session to somebody while it goes on, from entering to leaving."""


def unwatched(_participants: Participants) -> AbstractContextManager[object]:
    """Observes nothing."""
    return nullcontext()


def play(
    system: SystemUnderTest,
    stream: Stream,
    profile: LoadProfile,
    *,
    say: Callable[[str], None],
    watching: Watching = unwatched,
    reference: Callable[[], ReferenceEncoder] | None = None,
) -> SessionOutcome:
    """Plays `stream` to its end. `say` takes lines for a human.

    `reference` makes the encoder of the instant oracle, when the stream is over; without it there is no oracle.
    """
    with session_participants(system, profile, say=say) as participants, watching(participants):
        participants.player.run(stream, rate=profile.rate)
    ledger = participants.ledger
    prequential: PrequentialFigures | None = None
    curves: dict[str, list[Point]] = {}
    if reference is not None:
        encoder = reference()
        replayed = replay(ledger.asked(), encoder.encode)
        prequential = replayed.figures(len(stream.stages), encoder=encoder.digest, seed=profile.seed)
        curves = replayed.curves(ledger.started_ms)
    snapshot = participants.watcher.snapshot()
    back = read_back(system.bus, ledger)
    first_ms = ledger.progress().first_ms
    marks = [((moment_ms - ledger.started_ms) / 1000, arm) for (arm, _), moment_ms in first_ms.items()]
    result = figures(
        ledger,
        snapshot,
        back.audit,
        dead_letters=back.dead_letters,
        restarts=system.num_restarts(),
        prequential=prequential,
    )
    return SessionOutcome(result, ledger.curve(), curves, ledger.tests(), sorted(marks))


@contextmanager
def session_participants(
    system: SystemUnderTest, profile: LoadProfile, *, say: Callable[[str], None]
) -> Iterator[Participants]:
    """Runs all participants but the player, which waits for what to play."""
    ledger = Ledger(_new_run())
    watcher = Watcher(system.store)
    outbox = LoadOutbox(system.bus.publisher())
    draw_delays = partial(delays, seed=profile.seed, between_s=profile.label_delay_s)
    labeller = Labeller(
        system.bus,
        ledger,
        outbox,
        delays=draw_delays if profile.labels else lambda _: (),
        now_ms=now_ms,
        is_patient=profile.is_patient,
    )
    loops = Loops(labeller, watcher)

    def check_all() -> None:
        outbox.check()
        loops.check()
        system.check()

    began_ms = round(1000 * psutil.Process().create_time())
    callbacks = Callbacks(began_ms=began_ms, now_ms=now_ms, say=say, check=check_all)
    with loops:
        player = Player(ledger, watcher, outbox, callbacks, timeouts=profile.timeouts, seed=profile.seed)
        yield Participants(ledger, watcher, player)


def _new_run() -> str:
    return f"{now_ms():x}{secrets.token_hex(2)}"
