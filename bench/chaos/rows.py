"""Makes the rows of `make bench ONLY=chaos`, over both scenes together.

    SceneSize --python -m bench.chaos SCENE, in a namespace--> SceneOutcome --> rows

Each scene is a process of its own, which may have a mount namespace. It kills only its own descendants.
"""

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import msgspec

from bench.chaos.faults import Family
from bench.chaos.play import SceneOutcome
from bench.chaos.sandbox import in_namespace
from bench.chaos.size import FULL, SHORT, Arm, SceneSize
from bench.harness.case import Run
from bench.harness.process import PeerFailed
from evals.load.score import finite, nearest_rank
from evals.results.row import Row, Skip
from services.versions import ROOT

SCENES_BY_ARM: dict[Arm, tuple[str, ...]] = {"shipped": ("up", "apart"), "durable": ("apart",)}
"""Arm -> its scenes. `lifelong up` always starts its servers with the shipped settings, so it is not in `durable`."""

NOT_ONE = "<= 0"

RECOVERY_GOALS: dict[Family, str | None] = {"kill": "<= 15", "cut": "<= 30", "other": None}
"""Family of faults -> the goal for the 95th percentile of the recovery times, in seconds. Some of the other faults stop
the whole service on purpose: the restore of a backup, and a change of code."""

SKIPPED = 3
"""The exit code of a scene that cannot be played here. The reason is the last line that it prints."""


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(FULL, quick=SHORT)
    arms: Sequence[Arm] = ("shipped", "durable") if size.arm == "both" else (size.arm,)
    for arm in arms:
        scenes = SCENES_BY_ARM[arm]
        scene_size = replace(size, arm=arm)
        # Both arms have the same number of events and faults: the only scene of an arm is twice as large.
        if len(scenes) == 1:
            scene_size = doubled(scene_size)
        outcomes = [run_scene(scene, scene_size) for scene in scenes]
        yield from rows(outcomes, kills=2 * size.kills, cuts=2 * size.cuts)


def doubled(size: SceneSize) -> SceneSize:
    """Returns a size with twice as many events and faults."""
    return replace(size, events=2 * size.events, kills=2 * size.kills, cuts=2 * size.cuts, others=2 * size.others)


def run_scene(scene: str, size: SceneSize) -> SceneOutcome:
    """Plays a scene in a process of its own, which logs to the error stream.

    Raises Skip if the scene cannot be played on this machine, and PeerFailed if its process fails.
    """
    argv = [sys.executable, "-m", "bench.chaos", scene, msgspec.json.encode(size).decode()]
    done = subprocess.run(in_namespace(argv), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == SKIPPED:
        raise Skip(last)
    if done.returncode:
        raise PeerFailed(f"the scene {scene} ended with {done.returncode}")
    return msgspec.json.decode(last, type=SceneOutcome)


def rows(outcomes: Sequence[SceneOutcome], *, kills: int, cuts: int) -> Iterator[Row]:
    """Yields the rows of one arm.

    The silence is measured in the scene with one replica, failed requests in the scene with two.
    """
    row = partial(_row, outcomes[0].arm)
    verdicts = [outcome.verdict for outcome in outcomes]
    yield row("kills", sum(outcome.kills for outcome in outcomes), "kills", f">= {kills}")
    yield row("cuts", sum(outcome.cuts for outcome in outcomes), "power cuts", f">= {cuts}")
    events = sum(outcome.events for outcome in outcomes)
    yield row("faults", sum(len(outcome.faults) for outcome in outcomes), "faults", note=f"in {events} events")
    yield row("lost", sum(len(verdict.lost) for verdict in verdicts), "events outside of tails", NOT_ONE)
    yield from _tail_rows(outcomes)
    yield row("unpublished", sum(len(verdict.unpublished) for verdict in verdicts), "answers over HTTP", NOT_ONE)
    in_flight = sum(verdict.num_in_flight for verdict in verdicts)
    note = f"of {in_flight} in flight at a fault"
    yield row("answered_twice", sum(len(verdict.twice) for verdict in verdicts), "events", note=note)
    elsewhere = sum(len(verdict.twice_elsewhere) for verdict in verdicts)
    yield row("answered_twice_elsewhere", elsewhere, "events that were not in flight", NOT_ONE)
    yield row("labels_unaccounted", sum(verdict.num_unaccounted for verdict in verdicts), "labels", NOT_ONE)
    learnt = min(verdict.learnt_share for verdict in verdicts)
    yield row("learnt_share", round(100 * learnt, 3), "% of the labels", ">= 99.9")
    for outcome in outcomes:
        yield from _scene_rows(outcome)
    differing = sum(len(outcome.misattributed) for outcome in outcomes)
    num_sampled = differing + sum(outcome.attributed for outcome in outcomes)
    yield row("attribution", differing, "answers that their version does not give", NOT_ONE, note=f"of {num_sampled}")
    yield row("breaches", sum(len(outcome.breaches) for outcome in outcomes), "requests of an attacker", NOT_ONE)
    yield from _recovery_rows(outcomes)
    yield row("stuck", sum(outcome.stuck for outcome in outcomes), "times", NOT_ONE)
    yield row("ended_by_itself", sum(outcome.ended_by_itself for outcome in outcomes), "times", NOT_ONE)
    if all(outcome.are_weights_comparable for outcome in outcomes):
        yield row("weights_differ", sum(len(outcome.not_the_same) for outcome in outcomes), "tensors", NOT_ONE)


def _tail_rows(outcomes: Sequence[SceneOutcome]) -> Iterator[Row]:
    arm = outcomes[0].arm
    taken: Counter[str] = Counter()
    for outcome in outcomes:
        taken.update(outcome.lost_tails)
    note = "of " + ", ".join(f"{num} {what}" for what, num in taken.items()) + " in tails"
    lost = sum(outcome.verdict.num_lost_with_tails for outcome in outcomes)
    yield _row(arm, "lost_with_tails", lost, "events", NOT_ONE if arm == "durable" else None, note=note)


def _scene_rows(outcome: SceneOutcome) -> Iterator[Row]:
    row = partial(_row, outcome.arm)
    if outcome.scene == "up":
        for track, silence_s in outcome.silence_s.items():
            goal = "<= 30" if track == "http" else None
            yield row(f"longest_silence_s.{track}", round(silence_s, 1), "s", goal)
        yield row("revisions_back", outcome.revisions_back, "replies, one replica", NOT_ONE)
    else:
        note = "; ".join(f"{num} {reason}" for reason, num in outcome.http_failures.items())
        yield row("http_failed", sum(outcome.http_failures.values()), "requests, two replicas", NOT_ONE, note=note)


def _recovery_rows(outcomes: Sequence[SceneOutcome]) -> Iterator[Row]:
    row = partial(_row, outcomes[0].arm)
    for family, goal in RECOVERY_GOALS.items():
        times_s = chain.from_iterable(outcome.recoveries_s[family] for outcome in outcomes)
        recoveries_s = [math.inf if time_s is None else time_s for time_s in times_s]
        note = f"of {len(recoveries_s)}"
        yield row(f"{family}_recovery_s.p50", finite(nearest_rank(recoveries_s, 50), 1), "s")
        yield row(f"{family}_recovery_s.p95", finite(nearest_rank(recoveries_s, 95), 1), "s", goal, note=note)


def _row(arm: Arm, name: str, value: float | None, unit: str, goal: str | None = None, *, note: str = "") -> Row:
    return Row.of(f"chaos.{arm}.{name}", value, unit, goal=goal, note=note)
