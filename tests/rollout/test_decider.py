"""What follows from labels, carried out in a real store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import pytest

from rollout.config import RolloutConfig
from rollout.decider import Decider
from rollout.operator import Operator
from rollout.plans import Grounds, add, begin, follow
from rollout.tallies import TalliesState
from tests.rollout.world import REFUSAL, answer_of, label_of
from tests.stores import lease_of, publish
from wire.clock import now_ms
from wire.config import TrustConfig
from wire.records import CANDIDATE, NEWEST, STABLE, RolloutPlan
from wire.store import Store

CONFIG = RolloutConfig(ramp=(0.25, 0.5), ramp_answers=10, newest_share=0.125)
BETTER: Sequence[Mapping[int, bool]] = ({1: False, 2: True, 3: True},)
WORSE: Sequence[Mapping[int, bool]] = ({1: True, 2: False, 3: True},)
EQUAL: Sequence[Mapping[int, bool]] = ({1: True, 2: True, 3: True}, {1: False, 2: False, 3: False})
"""What the versions 1 (stable), 2 (candidate) and 3 (newest) name on one event after another: rightly or not."""


class Judging:
    """A decider, the clock that it reads, and labels for it."""

    def __init__(self, store: Store, config: RolloutConfig = CONFIG) -> None:
        self.store = store
        self.later_ms = 0
        self.decider = Decider(
            store,
            config=config,
            trust=TrustConfig(),
            refusal=REFUSAL,
            now_ms=lambda: now_ms() + self.later_ms,
        )
        self.offsets = self.decider.restore()
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
            answer = answer_of(f"{source}-{number}", self.plan, named[number % len(named)])
            self.decider.add(answer)
            self.decider.add(label_of(answer, source=source))
            self.decider.decide()

    def arms(self) -> list[tuple[str, int]]:
        return [(arm.name, arm.version) for arm in self.plan.arms]

    def actions(self) -> list[tuple[str, int, str]]:
        decisions = self.store.plans.decisions.since(0, 100)[::-1]
        return [(decision.action, decision.version, decision.rule) for decision in decisions]


@pytest.fixture
def published(store: Store) -> Store:
    """Publishes three versions: stable, candidate and newest."""
    publish(store, lease_of(store), 3)
    plan = begin(1, salt="s", now_ms=now_ms()).plan
    store.plans.write(plan)
    for version in (2, 3):
        plan = follow(plan, version, CONFIG, now_ms=now_ms()).plan
        store.plans.write(plan)
    return store


def test_a_better_candidate_is_promoted_at_once_and_the_newest_is_judged_next(published: Store) -> None:
    judging = Judging(published)
    judging.label(12, BETTER)
    assert judging.arms() == [(STABLE, 2), (CANDIDATE, 3), (NEWEST, 3)]
    assert (judging.plan.previous, judging.plan.reference) == (1, 2)
    (decision,) = [each for each in published.plans.decisions.since(0, 9) if each.action == "promoted"]
    assert (decision.version, decision.rule, decision.stable) == (2, "B", 2)
    assert decision.numbers["better"] > 4.6 and "won" in decision.reason


def test_a_worse_candidate_is_withdrawn_and_the_learner_set_back(published: Store) -> None:
    judging = Judging(published)
    judging.label(12, WORSE)
    assert judging.arms() == [(STABLE, 1)]
    assert published.versions.current() == 1
    assert judging.actions()[-1][:2] == ("withdrawn", 2)


def test_an_equal_candidate_goes_up_the_ramp_and_is_promoted_when_its_events_are_settled(published: Store) -> None:
    judging = Judging(published)
    judging.label(400, EQUAL)
    assert [action for action, *_ in judging.actions()] == ["ramped"]
    assert judging.plan.arms[1].share == 0.5
    judging.later_ms = 10_000
    judging.label(30, EQUAL)
    assert judging.arms() == [(STABLE, 2), (CANDIDATE, 3), (NEWEST, 3)]
    assert judging.actions()[-1] == ("promoted", 2, "C")
    assert judging.plan.reference == 1, "it is not better than the reference"


def test_labels_without_receipts_take_those_of_their_answers(published: Store) -> None:
    judging = Judging(published)
    for number in range(12):
        answer = answer_of(f"plain-{number}", judging.plan, BETTER[0])
        judging.decider.add(answer)
        assert judging.decider.add(label_of(answer, source="desk", receipt=""))
    assert judging.decider.decide() and judging.plan.stable == 2


def test_a_candidate_with_another_encoder_is_judged_by_the_answers_of_its_arm(published: Store) -> None:
    judging = Judging(published, replace(CONFIG, min_labels=5))
    for number in range(400):
        answer = answer_of(f"own-{number}", judging.plan, BETTER[0], has_own_encoder=True)
        judging.decider.add(answer)
        judging.decider.add(label_of(answer, source="desk"))
    judging.decider.decide()
    assert judging.actions()[-1] == ("promoted", 2, "unpaired")
    assert (judging.plan.stable, judging.plan.reference) == (2, 2)


def test_a_stable_version_that_turned_bad_gives_way_to_the_one_before(published: Store) -> None:
    judging = Judging(published)
    Operator(published, name="test", config=CONFIG).promote(2, now_ms=1)
    judging.label(60, ({1: True, 2: False, 3: False},))
    assert judging.arms() == [(STABLE, 1)]
    assert (judging.actions()[-1], published.versions.current()) == (("withdrawn", 2, "change"), 1)


def test_a_chain_of_stable_versions_that_turned_bad_gives_way_to_the_reference(published: Store) -> None:
    """Each is stable for too short a time to be judged alone."""
    judging = Judging(published)
    reference = judging.plan.reference
    for version in (2, 3):
        plan = judging.plan
        published.plans.write(add(plan, version, Grounds("A", "additive"), now_ms=1).plan)
        judging.label(15, ({1: True, version: False},))
    assert (judging.plan.stable, judging.actions()[-1][2]) == (reference, "change")


def test_by_hand_a_version_waits_for_its_approval(published: Store) -> None:
    judging = Judging(published, replace(CONFIG, approval="by_hand"))
    judging.label(30, BETTER)
    assert judging.plan.stable == 1
    assert "lifelong rollout approve 2" in judging.decider.state().waits_for
    Operator(published, name="test").approve(None, now_ms=1)
    judging.decider.decide()
    assert (judging.plan.stable, judging.plan.approved) == (2, 0)


def test_while_paused_nothing_is_promoted_and_what_is_bad_is_withdrawn(published: Store) -> None:
    judging = Judging(published)
    operator = Operator(published, name="test")
    operator.pause(now_ms=1)
    judging.label(40, BETTER)
    assert (judging.plan.stable, judging.plan.arms[1].share) == (1, 0.25)
    judging.label(200, WORSE)
    assert judging.arms() == [(STABLE, 1)]
    assert judging.plan.paused


def test_a_source_that_floods_one_verdict_moves_nothing(published: Store) -> None:
    judging = Judging(published)
    for _ in range(50):
        judging.label(9, WORSE, source="bot")
        judging.label(3, EQUAL, source="desk")
        judging.label(3, EQUAL, source="shop")
    assert not {"withdrawn", "promoted"} & {action for action, *_ in judging.actions()}
    assert judging.decider.state().counts["label_beyond_share"] > 0


def test_wrong_labels_on_one_arm_only_move_nothing(published: Store) -> None:
    """Somebody says of each of the candidate's answers that it is wrong: both versions named the same."""
    judging = Judging(published)
    for number in range(300):
        answer = answer_of(f"event-{number}", judging.plan, EQUAL[number % 2])
        is_wrong = answer.arm == CANDIDATE and answer.label == "yes"
        judging.decider.add(answer)
        judging.decider.add(label_of(answer, source="desk", label="no" if is_wrong else "yes"))
        judging.decider.decide()
    assert {action for action, *_ in judging.actions()} == {"ramped"}


def test_a_decider_that_starts_amid_a_ramp_goes_on_where_the_last_one_was(published: Store) -> None:
    before = Judging(published)
    before.label(100, EQUAL)
    share = before.plan.arms[1].share
    before.decider.save({"feedback.v1/0": 100})
    after = Judging(published)
    assert after.offsets == {"feedback.v1/0": 100}
    assert after.decider.state().evidence == before.decider.state().evidence
    assert after.plan.arms[1].share == share == 0.5
    after.label(300, EQUAL)
    after.later_ms = 10_000
    after.label(30, EQUAL)
    assert after.plan.stable == 2


def test_evidence_that_was_changed_by_others_is_not_used(published: Store) -> None:
    judging = Judging(published)
    judging.label(5, EQUAL)
    judging.decider.save({"feedback.v1/0": 5})
    state = published.plans.read_evidence(TalliesState)
    assert state is not None and state.candidate.groups
    published.plans._server.ask("HSET", published.plans._server.key("evidence"), "body", b"{}")
    again = Judging(published)
    assert again.offsets == {}
    assert again.decider.alarms.counts["evidence_unreadable"] == 1


def test_labels_of_a_version_that_was_withdrawn_change_nothing(published: Store) -> None:
    judging = Judging(published)
    answers = [answer_of(f"old-{number}", judging.plan, WORSE[0]) for number in range(100)]
    judging.label(12, WORSE)
    withdrawn = judging.plan
    assert judging.arms() == [(STABLE, 1)]
    for answer in answers:
        judging.decider.add(label_of(answer, source="desk"))
        judging.decider.decide()
    assert judging.plan == withdrawn


def test_forged_pairs_and_labels_of_other_versions_do_not_count(published: Store) -> None:
    judging = Judging(published)
    for number in range(50):
        answer = answer_of(f"forged-{number}", judging.plan, BETTER[0])
        forged = answer_of(f"forged-{number}", judging.plan, WORSE[0])
        mac = answer.receipt.rpartition(".")[2]
        claimed = f"{forged.receipt.rpartition('.')[0]}.{mac}"
        judging.decider.add(label_of(answer, source="bot", receipt=claimed))
        others = answer_of(
            f"others-{number}", judging.plan, {1: True, 2: False, 3: True, 7: False}, has_own_encoder=True
        )
        judging.decider.add(label_of(others, source="bot"))
        judging.decider.decide()
    assert judging.actions() == []
    assert judging.decider.state().counts["label_forged"] == 50


def test_what_an_operator_changed_meanwhile_is_not_decided_on(published: Store) -> None:
    judging = Judging(published)
    for number in range(30):
        answer = answer_of(f"a-{number}", judging.plan, WORSE[0])
        judging.decider.add(label_of(answer, source="desk"))
    Operator(published, name="test").pin(2, now_ms=1)
    assert not judging.decider.decide()
    assert (judging.plan.stable, judging.plan.pinned) == (2, True)
