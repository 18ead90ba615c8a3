"""Tests late labels: with a version every second, the rollout still advances. The clock counts seconds."""

from collections import deque

import pytest

from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.decider import Decider
from rollout.judge import Judge
from tests.rollout.world import REFUSAL, label_of, make_answer
from tests.stores import build_manifest, take_lease
from wire.config import TrustConfig
from wire.records import Feedback
from wire.store import Store

COLLECT_EVERY_S = 30
EVENTS_PER_S = 5


def no_judge() -> Judge:
    raise AssertionError("the simulation decides by itself, second by second")


class Simulation:
    """Simulates learner, replicas and labellers around the real controller and decider, second by second.

    Each version is right where the ones before it are, and the stable one on half of the events where the newer are.
    """

    def __init__(self, store: Store, *, delay_s: int) -> None:
        config = RolloutConfig(max_unlabelled=10_000)
        self.store = store
        self._lease = take_lease(store)
        self.second = 0
        self.decider = Decider(
            store, config=config, trust=TrustConfig(), refusal=REFUSAL, now_ms=lambda: 1_000 * self.second
        )
        self._controller = Controller(store, no_judge, config=config, holder="c", now_ms=lambda: 1_000 * self.second)
        self._delay_s = delay_s
        self._labels: deque[tuple[int, Feedback]] = deque()
        self.stable: list[int] = []
        """Returns the stable version at the end of each second."""

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second += 1
            self._publish()
            self._answer()
            self._label()
            if self.second % COLLECT_EVERY_S == 0:
                self._controller.collect()
            self._check()

    def _publish(self) -> None:
        version = self.store.versions.next_number()
        self.store.versions.publish(
            build_manifest(self.store, version, epoch=self._lease.epoch, parent=self.store.versions.current()),
            self._lease,
        )
        self._controller.follow_current()

    def _answer(self) -> None:
        plan = self.store.plans.read()
        assert plan is not None
        for number in range(EVENTS_PER_S):
            named = {version: version > plan.stable or number % 2 == 1 for version in sorted(plan.needed)}
            answer = make_answer(f"{self.second}-{number}", plan, named)
            self._labels.append((self.second + self._delay_s, label_of(answer, source="desk")))

    def _label(self) -> None:
        self.decider.follow_plan()
        while self._labels and self._labels[0][0] <= self.second:
            self.decider.add(self._labels.popleft()[1])
        self.decider.decide()

    def _check(self) -> None:
        """Every version of the plan is always stored."""
        plan = self.store.plans.read()
        assert plan is not None
        assert set(plan.needed) <= set(self.store.versions.stored())
        self.stable.append(plan.stable)


@pytest.mark.parametrize(
    ("delay_s", "seconds"),
    [
        (0, 120),
        (40, 300),
        (90, 500),
        (600, 2_000),
        pytest.param(7_200, 20_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)]),
    ],
)
def test_the_rollout_goes_on_however_late_the_labels_are(store: Store, delay_s: int, seconds: int) -> None:
    """B1: a version whose labels came after a minute was promoted after it was removed, and the rollout stood still."""
    simulation = Simulation(store, delay_s=delay_s)
    simulation.run(seconds)
    promoted = dict.fromkeys(simulation.stable)
    assert len(promoted) >= seconds // (delay_s + 90), promoted
    assert [*promoted] == sorted(promoted)
    assert not simulation.decider.alarms.active()
