"""A learner is killed while it adopts an encoder: the next one goes on with it, or decides again, to the same bits."""

from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import pytest
import torch

from learner.rounds.worker import INLINE
from model.strata_family import built_in
from tests.learner.learner_processes import LearnerProcesses, exit_code, send, stop, wait_for
from tests.learner.offers import PRUNED, make_offer
from tests.learner.small_learner import small_learner
from tests.learner.streams import stream
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import Command, Feedback
from wire.store import Store
from wire.timestamps import now_ms

pytestmark = pytest.mark.live

NUM_EVENTS = 120
SETTINGS = {"trainable_layers": 1, "slow_every_labels": 1e6, "max_negative_flips": 1.0, "accuracy_tolerance": 1.0}
"""No round comes in between, and random encoders pass the gate."""

FAST = ("after-take:1", "after-checkpoint:2")
SLOW = ("after-adopt:1", "in-checkpoint:2", "after-publish:1", "after-mark:1")
POINTS = (*FAST, *(pytest.param(point, marks=pytest.mark.slow) for point in SLOW))


@pytest.fixture
def children(
    tmp_path: Path, bus_config: BusConfig, store_config: StoreConfig, request: pytest.FixtureRequest
) -> LearnerProcesses:
    started = LearnerProcesses(tmp_path, bus_config, store_config, **SETTINGS)
    request.addfinalizer(started.close)
    return started


def learn(children: LearnerProcesses, bus: Bus, store: Store) -> None:
    """Lets a learner learn a stream, publish, and end."""
    since_ms = now_ms()
    records = list(stream(0, NUM_EVENTS))
    num_labels = sum(isinstance(record, Feedback) for record in records)
    send(bus, records)
    child = children.start()
    wait_for(
        store, lambda report: report.counts.get("labels", 0) == num_labels and report.version > 0, since_ms=since_ms
    )
    assert stop(child) == 0


def decided(store: Store, command: Command) -> Callable[[], bool]:
    def is_decided() -> bool:
        outcome = store.commands.outcome(command)
        return outcome is not None and outcome.is_final

    return is_decided


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_learner_adopts_the_encoder_to_the_same_bits(
    children: LearnerProcesses, bus: Bus, store: Store, point: str
) -> None:
    learn(children, bus, store)
    parent = store.versions.current()
    offer = make_offer(store)
    command = store.commands.append(offer)
    assert exit_code(children.start(point)) == -SIGKILL
    child = children.start()
    eventually(decided(store, command), within_s=90)
    assert stop(child) == 0

    outcome = store.commands.outcome(command)
    assert outcome is not None and outcome.state == "published" and outcome.version > parent
    manifest = store.versions.manifest(store.versions.current())
    assert {entry.digest for entry in offer.tensors} <= {entry.digest for entry in manifest.tensors}
    found = children.snapshot()
    assert found.facts.adopted is not None and found.facts.adopted.offer == "one"
    restored = small_learner(None, INLINE, children.state_dir, **SETTINGS)
    restored.restore(found)
    assert built_in(restored.fast_head.served.config).layers == PRUNED.layers
    once = restored.fast_head.successor(restored.fast_head.served)
    once.learn_many(restored.replay.samples())
    sums = restored.fast_head.export()
    same = ("gram", "class", "counts", "z")
    assert all(torch.equal(once.export()[name], sums[name]) for name in same)
    assert restored.progress.num_labels + restored.counts["holdout"] == NUM_EVENTS
