"""Tests late labels: with a version every second, the rollout still advances. The clock counts seconds."""

from collections import deque

import pytest

from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.decider import Decider
from rollout.judge import Judge
from tests.stores import lease_of, manifest_of
from wire.config import TrustConfig
from wire.records import Answer, Feedback
from wire.rollout import arm_for
from wire.store import Store

COLLECT_EVERY_S = 30
EVENTS_PER_S = 5


def no_judge() -> Judge:
    raise AssertionError("the simulation decides by itself, second by second")


class Simulation:
    """Simulates learner, replicas and labellers around the real controller and decider, second by second.

    The candidate arm is always right, the stable one half of the time.
    """

    def __init__(self, store: Store, *, delay_s: int) -> None:
        config = RolloutConfig(max_unlabelled=10_000)
        self.store = store
        self._lease = lease_of(store)
        self.second = 0
        self.decider = Decider(
            store, config=config, trust=TrustConfig(), refusal=lambda label: "", now_ms=lambda: self.second
        )
        self._controller = Controller(store, no_judge, config=config, holder="c", now_ms=lambda: self.second)
        self._delay_s = delay_s
        self._labels: deque[tuple[int, str]] = deque()
        self.stable: list[int] = []
        """Returns the stable version at the end of each second."""

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second += 1
            self._publish()
            self._answer()
            self._label()
            if self.second % COLLECT_EVERY_S == 0:
                self._controller.collect(self.decider.state().first_version)
            self._check()

    def _publish(self) -> None:
        version = self.store.versions.next_number()
        self.store.versions.publish(
            manifest_of(self.store, version, epoch=self._lease.epoch, parent=self.store.versions.current()), self._lease
        )
        self._controller.follow_current()

    def _answer(self) -> None:
        plan = self.store.plans.read()
        assert plan is not None
        for number in range(EVENTS_PER_S):
            event_id = f"{self.second}-{number}"
            arm = arm_for(event_id, plan)
            self.decider.add(
                Answer(
                    event_id=event_id,
                    text="",
                    label="right" if arm.name == "candidate" or number % 2 else "wrong",
                    score=1.0,
                    weights_version=arm.version,
                    arm=arm.name,
                    precision="int8",
                    rollout_revision=plan.revision,
                )
            )
            self._labels.append((self.second + self._delay_s, event_id))

    def _label(self) -> None:
        while self._labels and self._labels[0][0] <= self.second:
            self.decider.add(Feedback(event_id=self._labels.popleft()[1], label="right"))
        self.decider.decide()

    def _check(self) -> None:
        """The stable version is always stored, and so is the one to which a rollback returns."""
        plan = self.store.plans.read()
        assert plan is not None
        assert {*plan.versions, plan.previous} - {0} <= set(self.store.versions.stored())
        self.stable.append(plan.stable)


@pytest.mark.parametrize(
    ("delay_s", "seconds"),
    [
        (0, 120),
        (40, 300),
        (90, 500),
        (600, 2_000),
        pytest.param(7_200, 10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)]),
    ],
)
def test_the_rollout_goes_on_however_late_the_labels_are(store: Store, delay_s: int, seconds: int) -> None:
    """B1: a version whose labels came after a minute was promoted after it was removed, and the rollout stood still."""
    simulation = Simulation(store, delay_s=delay_s)
    simulation.run(seconds)
    promoted = dict.fromkeys(simulation.stable)
    assert len(promoted) >= seconds // (delay_s + 90), promoted
    for second, (before, after) in enumerate(zip(simulation.stable, simulation.stable[1:], strict=False), 2):
        if after != before:
            assert after > before
            assert second - after <= 1.2 * delay_s + 60, "what is promoted is hardly older than its labels"
    assert not simulation.decider.alarms.now()
