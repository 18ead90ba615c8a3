"""Makes the rows of `make bench ONLY=chaos`, over both scenes together.

    SceneSize --python -m bench.chaos SCENE, in a namespace--> SceneOutcome --> rows

Each scene is a process of its own, which may have a mount namespace, and whose descendants are all that is killed.
"""

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec

from bench.chaos.play import SceneOutcome
from bench.chaos.sandbox import in_namespace
from bench.chaos.size import FULL, SceneSize
from bench.chaos.timeline import nearest_rank
from bench.fixtures import Fixtures
from bench.process import PeerFailed
from evals.results.row import Goal, Row, Skip
from services.versions import ROOT

SCENES = ("up", "apart")

SKIPPED = 3
"""The exit code of a scene that cannot be played here. The reason is the last line that it prints."""


def measure(fixtures: Fixtures) -> Iterator[Row]:
    fixtures.stop_service()
    size = fixtures.sized(FULL)
    yield from rows([run_scene(scene, size) for scene in SCENES], kills=2 * size.kills)


def run_scene(scene: str, size: SceneSize) -> SceneOutcome:
    """Plays a scene in a process of its own, which logs to the error stream. Raises Skip, PeerFailed."""
    argv = [sys.executable, "-m", "bench.chaos", scene, msgspec.json.encode(size).decode()]
    done = subprocess.run(in_namespace(argv), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == SKIPPED:
        raise Skip(last)
    if done.returncode:
        raise PeerFailed(f"the scene {scene} ended with {done.returncode}")
    return msgspec.json.decode(last, type=SceneOutcome)


def rows(outcomes: Sequence[SceneOutcome], *, kills: int) -> Iterator[Row]:
    """Yields the rows. The silence over HTTP is from the scene with one replica, the failed requests from the other."""
    events = sum(outcome.events for outcome in outcomes)
    yield Row.of(
        name="chaos.kills", value=sum(outcome.kills for outcome in outcomes), unit="kills", goal=Goal(">=", kills)
    )
    faults = sum(len(outcome.faults) for outcome in outcomes)
    yield Row.of(name="chaos.faults", value=faults, unit="faults", note=f"in {events} events")
    yield _none("lost", sum(len(outcome.verdict.lost) for outcome in outcomes), "events")
    yield _none("unpublished", sum(len(outcome.verdict.unpublished) for outcome in outcomes), "answers over HTTP")
    twice = sum(len(outcome.verdict.twice) for outcome in outcomes)
    in_flight = sum(outcome.verdict.num_in_flight for outcome in outcomes)
    yield Row.of(name="chaos.answered_twice", value=twice, unit="events", note=f"of {in_flight} in flight at a fault")
    elsewhere = sum(len(outcome.verdict.twice_elsewhere) for outcome in outcomes)
    yield _none("answered_twice_elsewhere", elsewhere, "events that were not in flight")
    yield _none("labels_unaccounted", sum(outcome.verdict.num_unaccounted for outcome in outcomes), "labels")
    learnt = min(outcome.verdict.learnt_share for outcome in outcomes)
    yield Row.of(name="chaos.learnt_share", value=round(100 * learnt, 3), unit="% of the labels", goal=Goal(">=", 99.9))
    for outcome in outcomes:
        yield from _of_scene(outcome)
    recoveries_s = list(chain.from_iterable(outcome.recoveries_s for outcome in outcomes))
    p95 = nearest_rank(recoveries_s, 95)
    p50 = nearest_rank(recoveries_s, 50)
    yield Row.of(name="chaos.recovery_s.p50", value=_finite(p50), unit="s")
    yield Row.of(name="chaos.recovery_s.p95", value=_finite(p95), unit="s", goal=Goal("<=", 15))
    yield _none("stuck", sum(outcome.stuck for outcome in outcomes), "times")
    yield _none("ended_by_itself", sum(outcome.ended_by_itself for outcome in outcomes), "times")
    yield _none("weights_differ", sum(len(outcome.not_the_same) for outcome in outcomes), "tensors")


def _of_scene(outcome: SceneOutcome) -> Iterator[Row]:
    if outcome.scene == "up":
        for track, silence_s in outcome.silence_s.items():
            goal = Goal("<=", 30) if track == "http" else None
            yield Row.of(name=f"chaos.longest_silence_s.{track}", value=round(silence_s, 1), unit="s", goal=goal)
    else:
        yield _none("http_failed", sum(outcome.http_failures.values()), "requests, two replicas")


def _none(name: str, value: float, unit: str) -> Row:
    return Row.of(name=f"chaos.{name}", value=value, unit=unit, goal=Goal("<=", 0))


def _finite(value: float | None) -> float | None:
    return None if value is None or value == math.inf else round(value, 1)
