"""How long it takes until a version is decided on at 200 labels a second: seeded runs under a clock of their own.

Labels come 1 to 4 s after their answers, each event has a key of its own, and the settings are the default ones.
"""

import heapq
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest

from rollout.config import RolloutConfig
from rollout.due_step import DecisionInputs, due_step
from rollout.judged_events import JudgedLabel
from rollout.plans import begin, follow
from rollout.tallies import Tallies
from tests.rollout.joined import answer
from wire.draws import arm_for
from wire.receipts import Verdicts
from wire.records import Arm, RolloutPlan

RATE = 200
"""Labels a second."""

POLL_MS = 100
CONFIG = RolloutConfig()
STABLE = 1
CANDIDATE = 2
NEWEST = 3
ACCURACY = 0.9
RUNS = 3
LONGEST_S = 120


@dataclass
class Run:
    """A stable version, and a candidate and a newest version that are right as often but differ on `discordance`.

    With an encoder of their own they are compared with the stable version on the share `paired` of the events.
    """

    discordance: float
    seed: int
    paired: float = 1.0
    plan: RolloutPlan = begin(STABLE, salt="s", now_ms=0).plan
    tallies: Tallies = field(default_factory=Tallies)
    exposed_s: float = float("inf")
    _due: list[tuple[int, int, JudgedLabel]] = field(default_factory=list)

    def promoted_s(self) -> float:
        """Returns the seconds until the stable version is another one."""
        rng = np.random.default_rng(self.seed)
        numbers = count(1)
        for version in (CANDIDATE, NEWEST):
            self.plan = follow(self.plan, version, CONFIG, now_ms=0).plan
        for now_ms in range(0, 1_000 * LONGEST_S, POLL_MS):
            self.tallies.follow(self.plan)
            for _ in range(RATE * POLL_MS // 1_000):
                self._answer(next(numbers), now_ms, rng)
            while self._due and self._due[0][0] <= now_ms:
                self.tallies.add_label(heapq.heappop(self._due)[2], now_ms)
            self._decide(now_ms)
            if self.plan.stable != STABLE:
                return now_ms / 1_000
        return float("inf")

    def _answer(self, number: int, now_ms: int, rng: np.random.Generator) -> None:
        """Gives an answer, and lets its label come later."""
        arm = arm_for(str(number), self.plan)
        self.tallies.add_answer(answer(str(number), arm=arm.name, version=arm.version, revision=self.plan.revision))
        is_right = bool(rng.random() < ACCURACY)
        chance = self.discordance / 2 / (ACCURACY if is_right else 1 - ACCURACY)  # so that it is right as often
        is_newer_right = is_right ^ bool(rng.random() < chance)
        names = {STABLE: int(is_right), CANDIDATE: int(is_newer_right), NEWEST: int(is_newer_right)}
        if rng.random() >= self.paired:
            names = {version: name for version, name in names.items() if (version == STABLE) is (arm.version == STABLE)}
        label = JudgedLabel(
            verdicts=Verdicts(arm.name, arm.version, tuple(names.items())),
            name=1,
            source=f"desk-{number % 5}",
            answer_ms=now_ms,
            number=number,
        )
        heapq.heappush(self._due, (now_ms + int(rng.integers(1_000, 4_000)), number, label))

    def _decide(self, now_ms: int) -> None:
        self.tallies.settle_events(now_ms)
        arm: Arm | None = self.plan.arm("candidate")
        is_last = arm is not None and arm.share == CONFIG.ramp[-1]
        if is_last and self.tallies.num_answers >= CONFIG.ramp_answers:
            self.exposed_s = min(self.exposed_s, now_ms / 1_000)
        inputs = DecisionInputs(
            plan=self.plan,
            tallies=self.tallies,
            health={},
            config=CONFIG,
            now_ms=now_ms,
            has_other_encoder=lambda one, other: self.paired < 1.0,
        )
        step = due_step(inputs).step
        if step is not None:
            self.plan = step(self.plan).plan


@pytest.mark.parametrize("discordance", [0.01, 0.05])
def test_an_equal_candidate_takes_8_seconds_and_its_exposure_at_most(discordance: float) -> None:
    """Its evidence grows while the ramp goes on, which takes about 19 s: the first step has two answers a second."""
    runs = [Run(discordance, seed) for seed in range(RUNS)]
    times_s = [run.promoted_s() for run in runs]
    assert np.median(times_s) <= 8.0 + np.median([run.exposed_s for run in runs]), times_s
    assert np.median(times_s) <= 25.0, times_s


@pytest.mark.parametrize("discordance", [0.05, 0.1])
def test_an_equal_version_with_a_new_encoder_takes_60_seconds_at_most(discordance: float) -> None:
    times_s = [Run(discordance, seed, paired=0.25).promoted_s() for seed in range(RUNS)]
    assert np.median(times_s) <= 60.0, times_s
