"""Plays one stream on a running service.

    Player --> Sender --> events.v1 ... answers.v1 --> Reader --due--> Labeller --> Sender      in parallel: Watcher
    all stages done --> answers read back --> Figures

The figures of the service are compared with an instant oracle (`oracle.py`), which uses the service's encoder as it was
before the run (`frozen_reference`). After the run, the answers topic is read from its beginning and its answers are
counted.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import psutil
import torch
from torch import Tensor

from evals.continual.frozen import frozen
from evals.load.curve import Point
from evals.load.figures import Figures, Mark, compute_figures
from evals.load.labeller import Labeller, Reply, delays, no_delays
from evals.load.ledger import Ledger
from evals.load.oracle import PrequentialFigures, replay
from evals.load.player import SOURCE, Callbacks, Player, Timeouts
from evals.load.readback import TopicContents, read_back
from evals.load.reader import Reader
from evals.load.score import audit
from evals.load.sender import Sender
from evals.load.watcher import Watcher
from evals.streams.stream import Stream
from learner.config import LearnerConfig
from wire.bus import Bus, Received, partition_name
from wire.config import BusConfig
from wire.records import Answer, DeadLetter, Feedback
from wire.store import Store
from wire.timestamps import now_ms

CONNECT_S = 30.0
"""The longest time that the first event waits for a connection to the broker."""


@dataclass(frozen=True, slots=True)
class ReferenceEncoder:
    """An encoder that does not learn. `encode` returns unit vectors z_ND; `digest` names its weights."""

    encode: Callable[[Sequence[str]], Tensor]
    digest: str


def frozen_reference(config: LearnerConfig, encoder: str) -> ReferenceEncoder:
    """Returns the pretrained encoder in INT8, as replicas serve the first version. This takes seconds.

    It sets the number of torch threads of this process to the learner's.
    """
    # With more threads than cores that are free, threads wait for each other at each of 30,000 small products, which
    # takes minutes.
    torch.set_num_threads(config.threads)
    made = frozen(config, encoder)
    return ReferenceEncoder(lambda texts: made.vectors(list(texts)), made.served.key)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadProfile:
    """The options for playing a stream."""

    rate: float
    """Events a second."""
    label_delay_s: tuple[float, float] = (1.0, 4.0)
    """The shortest and the longest time from an answer to its label, in seconds."""
    seed: int = 0
    labels: bool = True
    """Whether labels are sent. Without labels nothing is learnt."""
    is_patient: bool = False
    """Whether answers are read with a short delay, which leaves more processor time to the service."""
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemUnderTest:
    """The running service that a session measures by playing a stream on it."""

    bus: BusConfig
    store: Store
    check: Callable[[], None]
    """Raises an exception if the service has ended."""
    num_restarts: Callable[[], int]
    """Returns how often programs of the service were restarted."""


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """The figures of a session, and the points of its plot."""

    figures: Figures
    curve: list[Point]
    """The accuracy over time of the answers as given."""
    beside: Mapping[str, list[Point]]
    """The accuracy over time of the baselines, by name."""
    tests: list[Point]
    """The accuracy of each test."""
    marks: list[Mark]
    """The first answers of the versions."""


@dataclass(frozen=True, slots=True)
class Participants:
    """The participants of a session to which a caller has access."""

    ledger: Ledger
    watcher: Watcher
    player: Player


Watching: TypeAlias = Callable[[Participants], AbstractContextManager[object]]
"""A function that returns a context manager, which shows a running session to somebody."""


def unwatched(_participants: Participants) -> AbstractContextManager[object]:
    """Returns a context manager that does not show the session."""
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
    """Plays `stream` to its end and returns the figures. `say` is called with lines for a human.

    `reference` creates the encoder of the instant oracle after the stream has ended. Without it there is no oracle.
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
    with closing(Bus(system.bus, "load-readback")) as bus:
        back = read_back(bus, TopicContents(ledger.number_of), (Answer, DeadLetter))
    first_ms = ledger.progress().first_ms
    marks = [((moment_ms - ledger.started_ms) / 1000, arm) for (arm, _), moment_ms in first_ms.items()]
    result = compute_figures(
        ledger,
        snapshot,
        audit(ledger.progress().counts.sent, back.answers),
        dead_letters=len(back.dead_letters),
        restarts=system.num_restarts(),
        prequential=prequential,
    )
    return SessionOutcome(result, ledger.curve(), curves, ledger.tests(), sorted(marks))


@contextmanager
def session_participants(
    system: SystemUnderTest, profile: LoadProfile, *, say: Callable[[str], None]
) -> Iterator[Participants]:
    """Runs all participants within the context. The caller drives the player."""
    ledger = Ledger(_new_run())
    watcher = Watcher(system.store)
    sender = Sender(lambda: system.bus, client_id="load")
    drawn = partial(delays, seed=profile.seed, between_s=profile.label_delay_s)
    labeller = Labeller(sender, source=SOURCE, delays=drawn if profile.labels else no_delays, label_of=ledger.label_of)

    def record(received: Received[Any]) -> None:
        """Records an answer and schedules its label, or records the offset of a label that was sent."""
        message = received.record
        if isinstance(message, Feedback):
            ledger.record_label(message, partition_name(received.position), received.position.offset)
            return
        number = ledger.record_answer(message, read_ms=now_ms())
        if number is not None:
            labeller.schedule(number, Reply.of(message))

    with closing(Bus(system.bus, "load-ends")) as bus:
        ends = bus.end_offsets(Answer, Feedback)
    reader = Reader(lambda: system.bus, (Answer, Feedback), record, offsets=ends, is_patient=profile.is_patient)
    loops = Loops(sender, labeller, reader, watcher)

    def check_all() -> None:
        loops.check()
        system.check()

    began_ms = round(1000 * psutil.Process().create_time())
    callbacks = Callbacks(began_ms=began_ms, now_ms=now_ms, say=say, check=check_all)
    with loops:
        sender.connected.wait(CONNECT_S)
        player = Player(ledger, watcher, sender, callbacks, timeouts=profile.timeouts, seed=profile.seed)
        yield Participants(ledger, watcher, player)


def _new_run() -> str:
    return f"{now_ms():x}{secrets.token_hex(2)}"


class Loop(Protocol):
    """A participant with a thread of its own. `run` returns after `close` was called."""

    def run(self) -> None: ...

    def close(self) -> None: ...


class Loops:
    """Runs each loop in a thread within its context."""

    def __init__(self, *loops: Loop) -> None:
        self._loops = loops
        self._threads = ThreadPoolExecutor(len(loops), thread_name_prefix="demo")
        self._running: list[Future[None]] = []

    def __enter__(self) -> "Loops":
        self._running = [self._threads.submit(loop.run) for loop in self._loops]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for loop in self._loops:
            loop.close()
        self._threads.shutdown()

    def check(self) -> None:
        """Raises the exception that ended a loop, or RuntimeError if a loop ended without an exception."""
        for running in self._running:
            if running.done():
                running.result()
                raise RuntimeError("a loop of the demo ended before it was closed")
