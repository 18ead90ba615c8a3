"""Heartbeats of the learner and of the rollout: only a change counts as a heartbeat."""

import pytest

from bench.chaos.ledger import LEARNER, ROLLOUT, ChaosLedger
from bench.chaos.running import LearnerWatch
from services.settings import Settings
from tests.stores import plant_plan
from wire.config import StoreConfig
from wire.records import Arm, LearnerReport, RolloutPlan
from wire.store import Store


@pytest.fixture
def ledger() -> ChaosLedger:
    return ChaosLedger(http_every=4, clock_s=lambda: 5.0)


def report(num_labels: int) -> LearnerReport:
    return LearnerReport(learner="l", state="learning", time_ms=1, counts={"labels": num_labels})


def test_only_a_change_is_a_heartbeat(store: Store, store_config: StoreConfig, ledger: ChaosLedger) -> None:
    watch = LearnerWatch(Settings, ledger)
    plan = RolloutPlan(revision=1, salt="s", arms=(Arm(name="stable", version=1, share=1.0),))
    plant_plan(store_config, plan)
    beats: list[tuple[int, int]] = []
    for num_labels in (5, 5, 6):
        store.reports.write_learner(report(num_labels))
        watch._poll(store)
        heartbeats = ledger.heartbeats()
        beats.append((len(heartbeats[LEARNER]), len(heartbeats[ROLLOUT])))
    assert beats == [(0, 0), (0, 0), (1, 0)]
    assert watch.counts == {"labels": 6}
