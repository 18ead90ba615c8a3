"""Measures live learning: the answers of a service that learns while it answers, compared with an instant oracle.

CLINC150 --domain by domain, or mixed, without a pause--> a fresh service --> accuracy as given, label to live, ...

Labels come 1 to 4 s after their answer. All settings have their defaults except `learner.learn_unlabelled`, which is
off, so that the service does not learn from test texts that have no labels. The oracle is defined in
`evals/load/oracle.py`, the streams in `evals/streams/arrivals.py`. At 20 events a second CLINC150 takes a quarter of
an hour.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from bench.harness.case import Run
from bench.harness.service import discard, fresh_stack
from bench.harness.texts import clinc150
from evals.load.figures import Figures
from evals.load.player import Timeouts
from evals.load.session import LoadProfile, frozen_reference, play
from evals.results.row import NoResult, Row
from evals.streams.arrivals import mixed, one_after_another
from evals.streams.stream import FULL_RATE, Stream
from services.demo.command import system_under_test

TIMEOUTS = Timeouts(learn_s=30.0)
"""After its last event a stream waits longer than by default for the last versions."""

RATIO_GOALS = {FULL_RATE: 0.90, 20.0: 1.0}
"""Events a second -> the lowest ratio to the oracle's accuracy, domain by domain."""

MIXED = "mixed"

LINGER_MS = 10
"""The load generator runs on the service's processors, and a Kafka request for each record would take a tenth of them.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveSize:
    """The size of the benchmark."""

    rates: str = "200 20"
    """Rates in events a second, split at spaces. At each rate the stream is played once, domain by domain."""
    stages: int = 10
    """The number of domains that are played, from the first on."""
    mixed: int = 15_000
    """The number of events of the mixed stream, which is played at the full rate. 0 leaves it out."""
    seed: int = 0


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(LiveSize(), quick=LiveSize(rates="50", stages=1, mixed=0))
    stream = clinc150(size.seed)
    stream = replace(stream, stages=stream.stages[: size.stages])
    for rate in map(float, size.rates.split()):
        run.say(f"{stream.num_events} events of {stream.name}, domain by domain, at {rate:g} a second ...")
        figures = play_live(one_after_another(stream), rate, seed=size.seed)
        yield from rows(figures, f"{rate:g}", RATIO_GOALS.get(rate), at_full_rate=rate == FULL_RATE)
    if size.mixed:
        run.say(f"{size.mixed} events of {stream.name}, mixed, at {FULL_RATE:g} a second ...")
        figures = play_live(mixed(stream, size.seed, size.mixed), FULL_RATE, seed=size.seed)
        yield from rows(figures, MIXED, RATIO_GOALS[FULL_RATE], at_full_rate=True)


def play_live(stream: Stream, rate: float, *, seed: int, settings: Mapping[str, Any] = MappingProxyType({})) -> Figures:
    """Plays a stream at `rate` events a second to a service that has learnt nothing.

    `settings`, given by dotted name, override the settings of the environment. Raises NoResult if a program of the
    service or a replica was restarted.
    """
    profile = LoadProfile(rate=rate, seed=seed, timeouts=TIMEOUTS)
    with fresh_stack(settings) as (stack, store, _):
        # Records wait up to LINGER_MS for more records. The latency of the answers includes this time.
        bus = stack.settings.bus.with_client(linger_ms=LINGER_MS)
        reference = partial(frozen_reference, stack.settings.learner, stack.settings.encoder)
        outcome = play(system_under_test(stack, store, bus), stream, profile, say=discard, reference=reference)
    if outcome.figures.restarts:
        raise NoResult(f"programs or replicas were restarted {outcome.figures.restarts} times")
    return outcome.figures


def rows(figures: Figures, suffix: str, ratio: float | None, *, at_full_rate: bool) -> Iterator[Row]:
    """Yields the rows of one run, whose names end with `suffix`.

    `ratio` is the goal for the ratio to the oracle. All other goals hold at the full rate only. Raises NoResult if no
    label was matched with an answer.
    """
    accuracies = figures.prequential
    if accuracies is None or accuracies.ratio is None:
        raise NoResult("no label came back")
    live = figures.label_to_live_s

    def row(name: str, value: float | None, unit: str, goal: str | None = None, note: str = "") -> Row:
        return Row.of(f"{name}.{suffix}", value, unit, goal=goal if at_full_rate else None, note=note)

    interval = f"{accuracies.ratio_low} to {accuracies.ratio_high} over domains"
    goal = f">= {ratio}" if ratio else None
    yield Row.of(f"prequential.ratio.{suffix}", accuracies.ratio, "of the oracle", goal=goal, note=interval)
    yield row("prequential.as_given", accuracies.as_given, "%")
    yield row("prequential.oracle", accuracies.oracle, "%", note=f"encoder {accuracies.encoder[:12]}")
    yield row("prequential.without_learning", accuracies.without_learning, "%")
    yield row("live.accuracy_final", figures.accuracy_final, "%")
    yield row("live.p50", live["p50"], "s, any arm")
    yield row("live.p95", live["p95"], "s, any arm")
    yield row("live.stable_p50", live["stable_p50"], "s", "<= 0.5")
    yield row("live.stable_p95", live["stable_p95"], "s", "<= 1")
    yield row("publish.p50", figures.publish_ms["p50"], "ms from reading a label to an answer", "<= 150")
    yield row("publish.p95", figures.publish_ms["p95"], "ms from reading a label to an answer", "<= 400")
    yield row("publish.durable_p99", figures.durable_ms["p99"], "ms from served to on disk", "<= 3000")
    yield row("answers.p99", figures.latency_ms["p99"], "ms", "<= 60", f"p50 {figures.latency_ms['p50']}")
    yield row("answers.lost", figures.lost, "events", "<= 0")
