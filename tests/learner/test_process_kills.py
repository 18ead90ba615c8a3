"""Exactly once under random kills: at the end, a killed learner knows what one knows that nobody killed, bit for bit.

Which record is read first, an answer of one partition or a label of another, is random at every poll, killed or not.
So the states are compared in two ways:

1. One partition. All answers come first and the order of the labels is given. So everything that the learner knows and
   publishes must be equal, including the order of the windows and the reservoirs.
2. Four partitions in any order. Everything that does not depend on the order must be equal: the join, the sums, and the
   samples in both memories, where nothing was dropped. Slow rounds begin at whatever offsets the polls have reached, so
   two runs train two encoders. There, the sums must be those of every label once under the encoder that the killed
   learner ended with. And a learner that nobody kills, and that begins its rounds at the same offsets, must publish the
   same weights, trained blocks included.
"""

import random
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from typing import Any

import msgspec
import pytest
import torch

from learner.drift import DriftState
from learner.failpoints import NAMES
from learner.memory import ReplayState
from learner.samples import Labelled
from learner.state.snapshot import Facts, Snapshot
from services.rebuild import rebuild_version
from tests.learner.learner_processes import LearnerProcesses, exit_code, send, stop, wait_for
from tests.learner.small_learner import small_config, small_learner
from tests.learner.streams import stream
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import Answer, Feedback
from wire.store import Store
from wire.timestamps import now_ms

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]

KILLS = 20
NUM_EVENTS = 20_000
IN_ROUNDS = ("after-slow-step", "after-adopt")
LABEL_COUNTS = ("learnt", "holdout", "over_capacity")
"""Counters of what became of labels; the others count how often something was done."""


@pytest.fixture
def bus_config(bus_config: BusConfig, request: pytest.FixtureRequest) -> BusConfig:
    return replace(bus_config, partitions=request.param)


@pytest.fixture
def start_children(
    tmp_path: Path, bus_config: BusConfig, store_config: StoreConfig, request: pytest.FixtureRequest
) -> Callable[..., LearnerProcesses]:
    def start(**changed: float | str) -> LearnerProcesses:
        children = LearnerProcesses(tmp_path, bus_config, store_config, **changed)
        request.addfinalizer(children.close)
        return children

    return start


@pytest.mark.parametrize("bus_config", [1], indirect=True)
def test_labels_in_a_given_order_leave_the_same_state_and_the_same_weights(
    start_children: Callable[..., LearnerProcesses], bus: Bus, store: Store
) -> None:
    config = small_config(trainable_layers=0, replay_samples=400, holdout_samples=100)
    children = start_children(trainable_layers=0, replay_samples=400, holdout_samples=100)
    records = list(stream(0, NUM_EVENTS))
    answers = [record for record in records if isinstance(record, Answer)]
    labels = [record for record in records if isinstance(record, Feedback)]
    send(bus, answers)
    all_read(children, store, answers, [])
    send_and_kill(children, bus, store, labels, points=[name for name in NAMES if name not in IN_ROUNDS])
    found = all_read(children, store, answers, labels)

    whole = small_learner(trainable_layers=0, replay_samples=400, holdout_samples=100)
    whole.learn_many(answers, {})
    whole.learn_many(labels, {})
    expected = whole.export(None)
    assert without_the_run(found.facts) == without_the_run(expected.facts)
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(value, expected.tensors[name]) for name, value in found.tensors.items())
    unkilled = small_learner(trainable_layers=0, replay_samples=400, holdout_samples=100)
    manifest = store.versions.manifest(store.versions.current())
    assert rebuild_version(manifest, unkilled, config, bus, say=lambda _: None).differing == ()
    epochs = [store.versions.manifest(entry.version).epoch for entry in store.versions.history(1_000)]
    assert epochs == sorted(epochs, reverse=True) and len(set(epochs)) > KILLS // 2


@pytest.mark.parametrize("bus_config", [4], indirect=True)
def test_labels_in_any_order_with_slow_rounds_are_in_the_sums_once(
    start_children: Callable[..., LearnerProcesses], bus: Bus, store: Store
) -> None:
    rounds: dict[str, float | str] = {
        "slow_every_labels": 300,
        "slow_labels_per_step": 200,
        "rebuild_batch": 500,
        "holdout_samples": 4_000,
    }
    children = start_children(**rounds)
    records = list(stream(0, NUM_EVENTS))
    send_and_kill(children, bus, store, records, points=NAMES)
    found = all_read(children, store, records, records)

    whole = small_learner(trainable_layers=0, holdout_samples=4_000)
    whole.learn_many(records, {})
    expected = whole.export(None)
    ends = ("answers", "labels", "matched", "duplicate", "late", "orphan")
    assert [found.facts.join.counts.get(end, 0) for end in ends] == [whole.join.counts[end] for end in ends]
    assert set(found.facts.join.labelled) == set(expected.facts.join.labelled)
    assert not found.facts.join.answers and not found.facts.join.labels
    assert read_counts(found.facts) == read_counts(expected.facts)
    assert list_samples(found.facts.replay) == list_samples(expected.facts.replay)
    assert list_samples(found.facts.holdout) == list_samples(expected.facts.holdout)

    ended = small_learner(**rounds)
    ended.restore(found)
    assert found.facts.counts["rounds_adopted"] > 0 and ended.fast_head.served.key != whole.fast_head.served.key
    once = ended.fast_head.successor(ended.fast_head.served)
    once.learn_many(whole.replay.samples())
    sums = ended.fast_head.export()
    assert all(torch.equal(value, sums[name]) for name, value in once.export().items())

    manifest = store.versions.manifest(store.versions.current())
    unkilled = small_learner(slow_rate=1e-5, **rounds)
    again = rebuild_version(manifest, unkilled, small_config(slow_rate=1e-5, **rounds), bus, say=lambda _: None)
    assert again.differing == () and again.rounds > 0


def send_and_kill(
    children: LearnerProcesses, bus: Bus, store: Store, records: Sequence[Answer | Feedback], *, points: Iterable[str]
) -> None:
    """Sends the records in as many parts as there are kills; after each part another learner starts and is killed."""
    rng = random.Random(20)
    known = list(points)
    for kill in range(KILLS):
        send(bus, records[kill * len(records) // KILLS : (kill + 1) * len(records) // KILLS])
        failpoint = f"{rng.choice(known)}:{rng.randint(1, 4)}" if rng.random() < 0.7 else ""
        since_ms = now_ms()
        child = children.start(failpoint)
        leads_or_is_dead(child, store, since_ms=since_ms)
        time.sleep(rng.uniform(0.0, 0.6))  # a failpoint may come first
        child.kill()
        assert exit_code(child) == -SIGKILL


def leads_or_is_dead(child: subprocess.Popen[str], store: Store, *, since_ms: int) -> None:
    def holds() -> bool:
        time.sleep(0.02)
        report = store.reports.learner()
        return child.poll() is not None or (report is not None and report.time_ms > since_ms)

    eventually(holds)


def all_read(
    children: LearnerProcesses, store: Store, answers: Iterable[Answer | Feedback], labels: Iterable[Answer | Feedback]
) -> Snapshot:
    """Runs a last learner, which nobody kills, until it has read everything; returns its last checkpoint."""
    num_answers = sum(isinstance(record, Answer) for record in answers)
    num_labels = sum(isinstance(record, Feedback) for record in labels)
    since_ms = now_ms()
    last = children.start()
    wait_for(
        store,
        lambda report: (
            (report.counts.get("answers", 0), report.counts.get("labels", 0)) == (num_answers, num_labels)
            and not report.round_phase
        ),
        since_ms=since_ms,
    )
    assert stop(last) == 0
    return children.snapshot()


def read_counts(facts: Facts) -> dict[str, int]:
    return {name: facts.counts.get(name, 0) for name in LABEL_COUNTS}


def without_the_run(facts: Facts) -> Facts:
    """The facts without those that depend on when the process was started or published, or on how records were batched.

    Drift is among the latter: it is measured against the class means before a poll. The temperature is fitted now and
    then.
    """
    of_the_run: dict[str, Any] = {
        "epoch": 0,
        "version": 0,
        "last_version": 0,
        "pending": None,
        "offsets": {},
        "read_first": {},
        "logs": {},
        "anchor": None,
        "temperature": 0.0,
        "round_plan": None,
    }
    return msgspec.structs.replace(facts, counts=read_counts(facts), drift=DriftState(), **of_the_run)


def list_samples(memory: ReplayState[Labelled]) -> dict[str, list[str]]:
    """The texts by label. Stages are left out: they say which round was under way when a sample came."""
    texts = dict[str, list[str]]()
    for label, heap in memory.groups.items():
        texts[label] = sorted(sample.text for _, sample in heap)
    return texts
