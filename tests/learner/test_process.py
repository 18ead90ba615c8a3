import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from learner.failpoints import NAMES
from learner.learner import Learner
from learner.process import EXIT_STALE
from learner.state.checkpoints import Checkpoints
from learner.state.snapshot import Snapshot
from tests.learner.learner_process import KEYS
from tests.learner.learner_processes import LearnerProcesses, exit_code, send, stop, wait_for
from tests.learner.small_learner import small_learner
from tests.learner.streams import stream
from tests.waiting import suspend
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import LearnerReport
from wire.store import Store
from wire.timestamps import now_ms

pytestmark = pytest.mark.live

LABELS_PER_RUN = 40
PUBLISHING = (
    "after-evaluate:1",
    "after-requantize:1",
    "after-blob:1",
    "in-checkpoint:2",
    "before-rename:2",
    "after-checkpoint:2",
    "after-journal:1",
)
"""The failpoints of a publication, up to where the store accepts or refuses it. The learner writes its first checkpoint
when it starts, so that of the publication is the second."""


@pytest.fixture
def start_children(
    tmp_path: Path, bus_config: BusConfig, store_config: StoreConfig, request: pytest.FixtureRequest
) -> Callable[[int], LearnerProcesses]:
    def start(layers: int) -> LearnerProcesses:
        children = LearnerProcesses(tmp_path, bus_config, store_config, trainable_layers=layers)
        request.addfinalizer(children.close)
        return children

    return start


def by_label(snapshot: Snapshot, name: str) -> dict[str, torch.Tensor]:
    return dict(zip(snapshot.facts.classes, snapshot.sums[name], strict=True))


def undisturbed(num_events: int) -> Learner:
    """Returns a learner that read everything at once, with the holdout that the children's keys draw."""
    whole = small_learner(trainable_layers=0)
    whole.names.draw_holdout_by(KEYS.holdout)
    whole.learn_many(stream(0, num_events), {})
    return whole


def assert_each_label_had_its_effect_once(found: Snapshot, num_events: int) -> None:
    whole = undisturbed(num_events)
    expected = whole.export(None)
    ends = ("labels", "answers", "matched", "duplicate", "late", "orphan")
    assert {end: found.facts.join.counts.get(end, 0) for end in ends} == {end: whole.join.counts[end] for end in ends}
    for count in ("learnt", "holdout", "over_capacity"):
        assert found.facts.counts.get(count, 0) == whole.counts[count]
    assert by_label(found, "counts") == by_label(expected, "counts")
    assert found.facts.num_scored == expected.facts.num_scored


@pytest.mark.slow
def test_a_learner_killed_at_every_point_learns_each_label_once(
    start_children: Callable[[int], LearnerProcesses], bus: Bus, store: Store
) -> None:
    children = start_children(0)
    points = [name for name in NAMES if name not in ("after-slow-step", "after-take", "after-adopt")]
    points += ["in-checkpoint:2", "before-rename:2"]  # the first checkpoint is that of the start
    for run, point in enumerate(points):
        send(bus, stream(run * LABELS_PER_RUN, (run + 1) * LABELS_PER_RUN))
        assert exit_code(children.start(point)) == -signal.SIGKILL, point
    num_events = len(points) * LABELS_PER_RUN
    since_ms = now_ms()
    last = children.start()
    wait_for(
        store,
        lambda report: report.counts.get("answers") == num_events and report.lag == 0,
        since_ms=since_ms,
    )
    assert stop(last) == 0
    found = children.snapshot()
    assert_each_label_had_its_effect_once(found, num_events)
    expected = undisturbed(num_events).export(None)
    assert torch.equal(found.sums["gram"], expected.sums["gram"])
    theirs = by_label(expected, "class")
    assert all(torch.equal(sums, theirs[label]) for label, sums in by_label(found, "class").items())
    epochs = [store.versions.manifest(entry.version).epoch for entry in store.versions.history(100)]
    assert epochs == sorted(epochs, reverse=True) and store.versions.current() == found.facts.last_version


@pytest.mark.slow
def test_a_learner_killed_in_slow_rounds_learns_each_label_once(
    start_children: Callable[[int], LearnerProcesses], bus: Bus, store: Store
) -> None:
    children = start_children(1)
    points = ("after-slow-step:2", "after-adopt", "after-checkpoint:3")
    for run, point in enumerate(points):
        send(bus, stream(run * 100, (run + 1) * 100))
        assert exit_code(children.start(point)) == -signal.SIGKILL, point
    since_ms = now_ms()
    last = children.start()
    wait_for(
        store,
        lambda report: report.counts.get("answers") == 300 and report.lag == 0 and not report.round_phase,
        since_ms=since_ms,
    )
    assert stop(last) == 0
    assert_each_label_had_its_effect_once(children.snapshot(), 300)
    assert children.snapshot().facts.counts["rounds_adopted"] > 0
    first = store.versions.manifest(1)
    newest = store.versions.manifest(store.versions.current())
    assert {entry.digest for entry in first.tensors} - {entry.digest for entry in newest.tensors}


def test_a_standby_takes_over_and_the_old_leader_stops_with_75(
    start_children: Callable[[int], LearnerProcesses], bus: Bus, store: Store
) -> None:
    children = start_children(0)
    leader = children.start()
    wait_for(store, lambda report: report.version == 1)
    standby = children.start()
    assert standby.stdout and "standing_by" in standby.stdout.readline()
    suspend(leader.pid)
    wait_for(store, lambda report: report.epoch == 2)
    leader.send_signal(signal.SIGCONT)
    assert exit_code(leader) == EXIT_STALE
    send(bus, stream(0, 40))
    wait_for(store, lambda report: report.counts.get("answers") == 40 and report.version >= 2)
    assert stop(standby) == 0
    assert store.versions.manifest(store.versions.current()).epoch == 2


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["tansu"], indirect=True)
@pytest.mark.timeout(600)
def test_a_leader_that_slept_at_any_step_of_a_publication_publishes_nothing(
    start_children: Callable[[int], LearnerProcesses], bus: Bus, store: Store
) -> None:
    """B20: a leader slept longer than its lease, and another one has published since, from the same version.

    Nobody goes on from a checkpoint of the one that slept, nor takes its state for a version.
    """
    children = start_children(0)
    for run, point in enumerate(PUBLISHING):
        send(bus, stream(run * LABELS_PER_RUN, (run + 1) * LABELS_PER_RUN))
        asleep = children.start(f"{point}:STOP")
        os.waitid(os.P_PID, asleep.pid, os.WSTOPPED)
        since_ms = now_ms()
        other = children.start()
        num_events = (run + 1) * LABELS_PER_RUN
        wait_for(store, lambda report: has_reported_all(report, num_events), since_ms=since_ms)  # noqa: B023
        assert stop(other) == 0
        before = (store.versions.current(), store.versions.history(100))
        newest = children.snapshot().facts
        asleep.send_signal(signal.SIGCONT)
        assert exit_code(asleep) == EXIT_STALE, point
        assert (store.versions.current(), store.versions.history(100)) == before, point
        assert children.snapshot().facts == newest, point
        assert_versions_are_what_was_served(children, store)


def assert_versions_are_what_was_served(children: LearnerProcesses, store: Store) -> None:
    checkpoints = Checkpoints(children.state_dir, num_newest=3)
    for version in {entry.version for entry in checkpoints.entries()} & set(store.versions.stored()):
        found = checkpoints.find_version(store.versions.manifest(version))
        assert found is None or found.snapshot.facts.epoch == store.versions.manifest(version).epoch


def has_reported_all(report: LearnerReport, num_events: int) -> bool:
    return report.counts.get("answers") == num_events and report.lag == 0
