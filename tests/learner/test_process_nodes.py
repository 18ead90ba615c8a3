"""Learners on two machines, each with a folder of its own: the other one goes on, and each label is learnt once."""

import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from learner.process import EXIT_STALE
from learner.state.checkpoints import named
from tests.learner.learner_processes import LearnerProcesses, exit_code, send, stop, wait_for
from tests.learner.streams import stream
from tests.learner.test_process import assert_each_label_had_its_effect_once
from tests.waiting import eventually, suspend
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import LearnerReport
from wire.store import Store
from wire.timestamps import now_ms

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]

KILLS = 6
LABELS_PER_RUN = 150


@pytest.fixture
def nodes(tmp_path: Path, bus_config: BusConfig, store_config: StoreConfig) -> Iterator[list[LearnerProcesses]]:
    nodes = list[LearnerProcesses]()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        address = f"file://{tmp_path}/shared"
        nodes.append(
            LearnerProcesses(tmp_path / name, bus_config, store_config, trainable_layers=0, checkpoint_url=address)
        )
    yield nodes
    for node in nodes:
        node.close()


def test_a_leader_that_is_killed_is_followed_by_the_other_node_and_each_label_is_learnt_once(
    nodes: list[LearnerProcesses], bus: Bus, store: Store
) -> None:
    rng = random.Random(17)
    leader = nodes[0].start()
    wait_for(store, lambda report: report.version >= 1)
    for run in range(KILLS):
        standby = nodes[(run + 1) % 2].start()
        assert standby.stdout and "standing_by" in standby.stdout.readline()
        first = run * LABELS_PER_RUN
        middle = first + rng.randrange(LABELS_PER_RUN)
        send(bus, stream(first, middle))
        leader.kill()
        assert exit_code(leader) == -signal.SIGKILL
        send(bus, stream(middle, first + LABELS_PER_RUN))
        num_read = first + LABELS_PER_RUN
        since_ms = now_ms()
        wait_for(store, partial(has_read, num_read), since_ms=since_ms)
        leader = standby
    wait_for(store, lambda report: report.epoch == KILLS + 1)
    assert stop(leader) == 0
    assert_each_label_had_its_effect_once(nodes[KILLS % 2].snapshot(), KILLS * LABELS_PER_RUN)
    epochs = [store.versions.manifest(entry.version).epoch for entry in store.versions.history(1_000)]
    assert epochs == sorted(epochs, reverse=True) and len(set(epochs)) > KILLS // 2


def test_a_leader_that_slept_does_not_overwrite_the_checkpoint_of_the_other_node(
    nodes: list[LearnerProcesses], tmp_path: Path, bus: Bus, store: Store
) -> None:
    leader = nodes[0].start()
    wait_for(store, lambda report: report.version >= 1)
    standby = nodes[1].start()
    assert standby.stdout and "standing_by" in standby.stdout.readline()
    send(bus, stream(0, 60))
    suspend(leader.pid)
    wait_for(store, lambda report: report.epoch == 2 and report.counts.get("answers") == 60)
    eventually(lambda: epoch_at(tmp_path) == 2)
    leader.send_signal(signal.SIGCONT)
    assert exit_code(leader) == EXIT_STALE
    send(bus, stream(60, 120))
    wait_for(store, partial(has_read, 120))
    assert stop(standby) == 0
    assert epoch_at(tmp_path) == 2
    assert_each_label_had_its_effect_once(nodes[1].snapshot(), 120)


def has_read(num_answers: int, report: LearnerReport) -> bool:
    return report.counts.get("answers") == num_answers and report.lag == 0


def epoch_at(tmp_path: Path) -> int:
    """Returns the epoch of the newest checkpoint at the address of both."""
    return max(entry.epoch for entry in named((tmp_path / "shared").iterdir()))
