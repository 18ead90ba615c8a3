"""Runs `lifelong demo`: starts a stack, plays a stream, and reports the results.

    data set --> Stack (untrained) --> session.play --> report

A run starts untrained: it has its own state folder, and its own prefix on shared servers (`services/demo/fresh.py`). So
everything it shows was learnt during the run, and your own weights are not changed. `DemoFeed` gives the page the
figures that only the demo knows.
"""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console

from evals.load.ledger import TRAIN, Ledger
from evals.load.score import Hits, accuracy_by_stage
from evals.load.session import LoadProfile, Participants, SessionOutcome, SystemUnderTest, frozen_reference, play
from evals.streams.data import DIGITS
from evals.streams.stream import Stream
from learner.errors import DataError, require
from services.commands.output import progress
from services.demo import report
from services.demo.change import ProfileChange
from services.demo.fresh import fresh
from services.demo.options import DemoOptions
from services.demo.report import Played, View
from services.demo.second_domain import EXPECTED_S, SecondDomain
from services.local.stack import LOGS, Stack
from services.page.server import served
from services.page.state import FedState, PageFigure, build_curve, matrix_table
from services.profiles.profile import PROFILES
from services.programs import open_store
from services.running import read_announcement
from services.settings import Settings, replaced
from wire.bus import Bus
from wire.config import BusConfig
from wire.logs import LogConfig, formatter
from wire.mapping import MapConfig
from wire.store import Store
from wire.timestamps import now_ms

LOST = 1
USAGE = 2
INTERRUPTED = 130
"""Exit codes other than 0."""

START_S = 15.0
SETTLE_S = 15.0
END_S = 25.0
"""Estimates: the start; the pause and the test after each stage; the last test with the oracle's replay."""
REHEARSAL_S = 0.014
"""Estimate: the rehearsal after the last stage, per event."""

AS_GIVEN: Final = "as given, second by second"

TESTS: Final = "test items of all stages so far"


def run(settings: Settings, options: DemoOptions) -> int:
    """Runs the demo to its end; returns its exit code. Raises the errors of the stack, and WireError."""
    console = Console()
    # SIGTERM ends the run like Control-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.plot is not None:
            require("matplotlib", extra="evals")
        stream = options.stream(settings.data, settings.seed)
        with fresh(_without_maps_and_tasks(settings), say=partial(report.say, console)) as own:
            run_settings = _with_reachable_decisions(_with_profile(own, options), stream)
            played = _play(run_settings, stream, options, console)
    except DataError as error:
        print(error, file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        console.print("Interrupted. Everything was stopped.")
        return INTERRUPTED
    return LOST if played.is_faulty else 0


def _without_maps_and_tasks(settings: Settings) -> Settings:
    """Returns the settings without message maps, which name foreign topics, and without the tasks of the service."""
    return settings.model_copy(update={"bus": replace(settings.bus, map=MapConfig()), "tasks": {}})


def _with_reachable_decisions(settings: Settings, stream: Stream) -> Settings:
    """Lowers the number of labels that judge a candidate if a stage of the stream has fewer labels."""
    enough = stream.labels_to_decide(settings.rollout.ramp[-1])
    return replaced(settings, {"rollout.min_labels": min(settings.rollout.min_labels, enough)})


def _with_profile(settings: Settings, options: DemoOptions) -> Settings:
    """Returns the settings with the encoder of the profile.

    If the profile changes during the run, the settings keep every version, since its answers are computed again.
    """
    changes: dict[str, object] = {}
    if options.data == DIGITS:
        changes["encoder"] = _digits_encoder(settings)
    if options.profile is not None:
        changes["encoder"] = _encoder(options.profile, settings)
    if options.change_to is not None:
        changes |= {"rollout.keep_versions": 100_000, "rollout.keep_bytes": 4 << 30}
    return replaced(settings, changes)


def _digits_encoder(settings: Settings) -> str:
    """Returns the folder of the encoder of digits. If it has to be trained first, its progress is shown."""
    from lifelong.compress.contrastive import PretrainOptions
    from services.members.train import train_digits

    with progress() as say:
        return train_digits(PretrainOptions(), data=settings.data, state_dir=settings.state_dir.parent, say=say).folder


def _encoder(profile: str, settings: Settings) -> str:
    """Returns the encoder of a profile. If it has to be made first, its progress is shown."""
    from services.members.search import read_front
    from services.profiles.encoders import build_encoder

    front = read_front(settings.state_dir.parent)
    with progress() as say:
        return build_encoder(PROFILES[profile], data=settings.data, say=say, front=front)


def _play(settings: Settings, stream: Stream, options: DemoOptions, console: Console) -> Played:
    def say(text: str) -> None:
        report.say(console, f"[{_since_start_s():5.1f} s] {text}")

    say(f"{stream.name}: {stream.num_events} events, {stream.num_labels} labels in {len(stream.stages)} stages")
    rate = stream.default_rate if options.rate is None else options.rate
    total_s = expected_s(stream, rate) + (EXPECTED_S if options.pretrain else 0)
    say(f"It takes about {total_s:.0f} s on two cores.")
    say(f"{rate:g} events a second; a candidate is judged by {settings.rollout.min_labels} labels or more")
    profile = LoadProfile(rate=rate, label_delay_s=options.label_delay_s, seed=settings.seed)
    with (
        logging_into(settings.state_dir / LOGS / "demo.log", settings.logs),
        Stack(settings, say=say, announce_in=_announce_folder(settings), pretrains=options.pretrain) as stack,
        served(stack.settings, say=say) as page,
    ):
        feed = DemoFeed(stream)
        if page is not None:
            page.feed = feed
        say("The replicas are ready.")
        with closing(open_store(stack.settings)) as store, closing(Bus(stack.settings.bus, "demo")) as bus:
            plain = partial(report.say, console)
            reference = partial(frozen_reference, settings.learner, settings.encoder)
            system = system_under_test(stack, store)
            change = _profile_change(stack.settings, store, stream, options, say=plain)
            domain = SecondDomain(stream, stack.settings, store, say=plain) if options.pretrain else None

            @contextmanager
            def watching(participants: Participants) -> Iterator[None]:
                feed.follow(participants.ledger)
                changing = change.during(participants.ledger) if change else nullcontext()
                moving = domain.during(participants) if domain else nullcontext()
                with View(console, stream, participants.ledger, participants.watcher), changing, moving:
                    yield

            outcome = play(system, stream, profile, say=plain, watching=watching, reference=reference)
            feed.finish(outcome)
            played = Played(
                outcome,
                change=change.compare_answers(bus) if change else None,
                moved=domain.result(outcome) if domain else None,
            )
            report.show(played, stream, options, console)
            report.say(console, report.closing_lines(outcome.figures, stack.settings.page.port))
            if options.stay:
                _stay(stack, say=say)
            return played


def _stay(stack: Stack, *, say: Callable[[str], None]) -> None:
    """Keeps the stack running until Control-C or SIGTERM, which both raise KeyboardInterrupt here."""
    say("The service stays up. Control-C ends it.")
    with suppress(KeyboardInterrupt):
        stack.wait(threading.Event())


def _profile_change(
    settings: Settings, store: Store, stream: Stream, options: DemoOptions, *, say: Callable[[str], None]
) -> ProfileChange | None:
    if options.change_to is None:
        return None
    encoder = _encoder(options.change_to, settings)
    num_events = stream.num_events
    return ProfileChange(PROFILES[options.change_to], encoder, store, settings=settings, num_events=num_events, say=say)


def expected_s(stream: Stream, rate: float) -> float:
    """Returns an estimate of the length of a run in seconds, from its start to its figures."""
    pauses_s = 0.0 if stream.arrivals else SETTLE_S * len(stream.stages) + REHEARSAL_S * stream.num_events
    return START_S + stream.num_events / rate + pauses_s + END_S


def system_under_test(stack: Stack, store: Store, bus: BusConfig | None = None) -> SystemUnderTest:
    """Returns a stack as a system on which a stream is played; `bus` overrides the settings of its clients."""
    return SystemUnderTest(
        bus=bus or stack.settings.bus, store=store, check=stack.check, num_restarts=lambda: stack.num_restarts
    )


def _announce_folder(settings: Settings) -> Path | None:
    """Returns the folder where other commands find the demo; None if another stack is announced there already."""
    home = settings.state_dir.parent
    return home if read_announcement(home) is None else None


@contextmanager
def logging_into(path: Path, config: LogConfig) -> Iterator[None]:
    """Writes the logs of libraries, redacted, to `path` during the block, so that they do not disturb the panel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(formatter(config))
    before = root.handlers
    root.handlers = [file]
    try:
        yield
    finally:
        root.handlers = before
        file.close()


def _since_start_s() -> float:
    """Returns the seconds since the start of the process, including the start of Python."""
    return now_ms() / 1000 - psutil.Process().create_time()


class DemoFeed:
    """The feed of the page for one run. Verbs: follow, finish. The page's thread calls it for the present state."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ledger: Ledger | None = None
        self._outcome: SessionOutcome | None = None

    def follow(self, ledger: Ledger) -> None:
        """Shows the figures of the ledger from now on."""
        self._ledger = ledger

    def finish(self, outcome: SessionOutcome) -> None:
        """Adds the comparisons that are known after the run."""
        self._outcome = outcome

    def __call__(self) -> FedState:
        title = f"Lifelong demo: {self._stream.name}"
        if self._ledger is None:
            return FedState(title=title)
        progress = self._ledger.progress()
        started_ms = self._ledger.started_ms
        trained = progress.of_round(TRAIN)
        figures = [PageFigure("right as given, this run", trained.accuracy / 100 if trained.sent else None, "percent")]
        curves = [
            build_curve(AS_GIVEN, self._ledger.curve(), started_ms),
            build_curve(TESTS, self._ledger.tests(), started_ms),
        ]
        baseline = PageFigure("right without learning", None, "percent")
        if self._outcome is not None:
            curves += [build_curve(name, points, started_ms) for name, points in self._outcome.beside.items()]
            if (known := self._outcome.figures.prequential) is not None:
                figures.append(PageFigure("right, an instant oracle", known.oracle / 100, "percent"))
                baseline = PageFigure(baseline.name, known.without_learning / 100, "percent")
        names = [stage.name for stage in self._stream.stages]
        matrix = matrix_table(accuracy_by_stage(finished_rounds(progress.hits)), names)
        return FedState(
            title=title, baseline=baseline, figures=tuple(figures), curves=tuple(curves), tables={"matrix": matrix}
        )


def finished_rounds(hits: Mapping[tuple[int, int], Hits]) -> dict[tuple[int, int], Hits]:
    """Returns the hits of the finished rounds of tests, in which every test item of every stage was answered."""

    def is_answered(number: int, stage: int) -> bool:
        cell = hits.get((number, stage))
        return cell is not None and cell.answered == cell.sent

    # Round n tests the stages 0 to n. Round -1 is the training.
    rounds = {number for number, _ in hits if number >= 0}
    finished = {number for number in rounds if all(is_answered(number, stage) for stage in range(number + 1))}
    return {key: cell for key, cell in hits.items() if key[0] in finished}
