"""Tests `lifelong forget` with a running learner: its output, and that nothing of the subject is left."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from tests.learner.learner_processes import LearnerProcesses, send, stop, wait_for
from tests.learner.small_learner import SUBJECT_DIGEST
from tests.learner.streams import make_subject, stream
from tests.stores import SIGNING_KEY
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.store import Store

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]

Forget = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def forget(bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path) -> Forget:
    environ = {
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
    }

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "services.cli", "forget", *words]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | environ, timeout=100)

    return run


def test_a_subject_is_forgotten_while_the_learner_runs_and_at_its_next_start(
    forget: Forget, bus: Bus, store: Store, bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path
) -> None:
    children = LearnerProcesses(tmp_path, bus_config, store_config, trainable_layers=0)
    try:
        child = children.start()
        send(bus, stream(0, 140))
        wait_for(store, lambda report: report.counts.get("labels") == 154)
        done = forget("--subject", make_subject(3), "--json")
        assert done.returncode == 0, done.stderr
        proof = json.loads(done.stdout)
        assert proof["digest"] == SUBJECT_DIGEST(make_subject(3))
        assert proof["numbers"]["replay"] > 10
        assert (proof["seq"], proof["state"]) == (1, "published")
        assert proof["current"]["erased"] == 1
        assert proof["current"]["version"] >= proof["version"]
        assert "Version" in forget("--subject", make_subject(3)).stdout
        assert stop(child) == 0
        assert forget("--subject", make_subject(4), "--no-wait").returncode == 0
        late = forget("--subject", make_subject(4), "--timeout", "1")
        assert (late.returncode, late.stdout) == (75, "") and "stays in the log" in late.stderr
        child = children.start()
        assert forget("--subject", make_subject(4)).returncode == 0
        assert stop(child) == 0
    finally:
        children.close()
    facts = children.snapshot().facts
    samples = [sample for _, sample in chain.from_iterable(facts.replay.groups.values())]
    subjects = {sample.subject for sample in samples if sample.subject}  # class names have none
    assert subjects == {make_subject(number) for number in range(7)} - {make_subject(3), make_subject(4)}
    assert store.versions.manifest(store.versions.current()).erased == 2
