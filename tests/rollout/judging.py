"""A decider in a real store with three versions: one stable, one candidate, one newest; and labels for it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from rollout.config import RolloutConfig
from rollout.decider import Decider
from rollout.plans import begin, follow
from tests.rollout.world import REFUSAL, label_of, make_answer
from tests.stores import publish, take_lease
from wire.config import TrustConfig
from wire.records import Answer, Feedback, RolloutPlan
from wire.store import Store
from wire.timestamps import now_ms

CONFIG = RolloutConfig(ramp=(0.25, 0.5), ramp_answers=10, newest_share=0.125)
BETTER: Sequence[Mapping[int, bool]] = ({1: False, 2: True, 3: True},)
WORSE: Sequence[Mapping[int, bool]] = ({1: True, 2: False, 3: False},)
EQUAL: Sequence[Mapping[int, bool]] = ({1: True, 2: True, 3: True}, {1: False, 2: False, 3: False})
"""What the versions 1 (stable), 2 (candidate) and 3 (newest) name on one event after another: rightly or not."""


class Judging:
    """A decider, the clock that it reads, which stands still, and labels for it."""

    def __init__(self, store: Store, config: RolloutConfig = CONFIG) -> None:
        self.store = store
        self.later_ms = 0
        started_ms = now_ms()
        self.decider = Decider(
            store,
            config=config,
            trust=TrustConfig(),
            refusal=REFUSAL,
            now_ms=lambda: started_ms + self.later_ms,
        )
        self.offsets, self.marks = self.decider.restore()
        self._numbers: Iterator[int] = count()

    @property
    def plan(self) -> RolloutPlan:
        plan = self.store.plans.read()
        assert plan is not None
        return plan

    def label(self, events: int, named: Sequence[Mapping[int, bool]], *, source: str = "desk") -> None:
        """Adds answers under the plan in force and their labels, and decides after each."""
        for _ in range(events):
            number = next(self._numbers)
            answer = make_answer(f"{source}-{number}", self.plan, named[number % len(named)])
            self.add(answer, label_of(answer, source=source))

    def add(self, *records: Answer | Feedback) -> bool:
        """Adds records as those of one batch, and decides; returns whether the plan was changed."""
        self.decider.follow_plan()
        for record in records:
            self.decider.add(record)
        return self.decider.decide()

    def arms(self) -> list[tuple[str, int]]:
        return [(arm.name, arm.version) for arm in self.plan.arms]

    def actions(self) -> list[tuple[str, int, str]]:
        decisions = self.store.plans.decisions.since(0, 100)[::-1]
        return [(decision.action, decision.version, decision.rule) for decision in decisions]


def publish_three(store: Store) -> Store:
    """Publishes three versions: stable, candidate and newest."""
    publish(store, take_lease(store), 3)
    plan = begin(1, salt="s", now_ms=now_ms()).plan
    store.plans.write(plan)
    for version in (2, 3):
        plan = follow(plan, version, CONFIG, now_ms=now_ms()).plan
        store.plans.write(plan)
    return store
