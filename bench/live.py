"""Measures live learning: the answers of a service that learns while it answers, beside an instant oracle.

CLINC150 domain by domain, without a pause, at each rate --> a fresh service --> accuracy as given, label to live

Labels come 1 to 4 s after their answer, and nothing is set otherwise than by default. The oracle is defined in
`evals/load/oracle.py`. At 20 events a second CLINC150 takes a quarter of an hour.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from bench.fixtures import Fixtures
from bench.row import Goal, NoResult, Row
from bench.service import discard, fresh_stack
from bench.texts import clinc150
from evals.load.callbacks import Timeouts
from evals.load.figures import Figures
from evals.load.reference import frozen_reference
from evals.load.session import LoadProfile, play
from evals.streams.stream import Stream
from services.demo.command import system_of

TIMEOUTS = Timeouts(learn_s=30.0, judge_s=math.inf)
"""The end of the stream is waited for a while, and nothing is promoted by hand."""

RATIO_GOALS = {200.0: 0.90, 20.0: 1.0}
"""The lowest ratio to the oracle by events a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveSize:
    """The size of the benchmark."""

    rates: str = "200 20"
    """Events a second, one run for each."""
    stages: int = 10
    """The first so many domains are played."""
    seed: int = 0


def measure(fixtures: Fixtures) -> Iterator[Row]:
    size = fixtures.sized(LiveSize())
    fixtures.stop_service()
    stream = clinc150(size.seed)
    stream = replace(stream, stages=stream.stages[: size.stages])
    for rate in map(float, size.rates.split()):
        fixtures.say(f"{stream.num_events} events of {stream.name} at {rate:g} a second ...")
        yield from rows(play_live(stream, rate, seed=size.seed), rate)


def play_live(stream: Stream, rate: float, *, seed: int) -> Figures:
    """Plays a stream on a service that knows nothing. Raises NoResult where a program had to be started again."""
    profile = LoadProfile(rate=rate, seed=seed, is_continuous=True, timeouts=TIMEOUTS)
    with fresh_stack() as (stack, store, bus):
        settings = stack.settings
        reference = partial(frozen_reference, settings.learner, settings.encoder)
        outcome = play(system_of(stack, bus, store), stream, profile, say=discard, reference=reference)
    if outcome.figures.restarts:
        raise NoResult(f"{outcome.figures.restarts} times a program or a replica was started again")
    return outcome.figures


def rows(figures: Figures, rate: float) -> Iterator[Row]:
    """Yields the rows of one run. Goals are those of 200 events a second, but for the ratio."""
    known = figures.prequential
    if known is None or known.ratio is None:
        raise NoResult("no label came back")
    live = figures.label_to_live_s
    at_full = rate >= max(RATIO_GOALS)

    def row(name: str, value: float | None, unit: str, goal: Goal | None = None, note: str = "") -> Row:
        return Row.of(name=f"{name}.{rate:g}", value=value, unit=unit, goal=goal if at_full else None, note=note)

    interval = f"{known.ratio_low} to {known.ratio_high} over domains"
    goal = Goal(">=", RATIO_GOALS.get(rate, 1.0))
    yield Row.of(name=f"prequential.ratio.{rate:g}", value=known.ratio, unit="of the oracle", goal=goal, note=interval)
    yield row("prequential.as_given", known.as_given, "%")
    yield row("prequential.oracle", known.oracle, "%", note=f"encoder {known.encoder[:12]}")
    yield row("prequential.without_learning", known.without_learning, "%")
    yield row("live.accuracy_final", figures.accuracy_final, "%")
    yield row("live.p50", live["p50"], "s, any arm")
    yield row("live.p95", live["p95"], "s, any arm")
    yield row("live.stable_p50", live["stable_p50"], "s", Goal("<=", 0.5))
    yield row("live.stable_p95", live["stable_p95"], "s", Goal("<=", 1.0))
    yield row("publish.p50", figures.publish_ms["p50"], "ms", Goal("<=", 150))
    yield row("publish.p95", figures.publish_ms["p95"], "ms", Goal("<=", 400))
    yield row("answers.p99", figures.latency_ms["p99"], "ms", Goal("<=", 60), f"p50 {figures.latency_ms['p50']}")
    yield row("answers.lost", figures.lost, "events", Goal("<=", 0))
