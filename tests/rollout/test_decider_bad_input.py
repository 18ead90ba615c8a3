"""Labels that are wrong on purpose, flood, are forged or come too late move nothing; nor does a tampered record."""

from dataclasses import replace

import msgspec
import pytest

from rollout.operator import Operator
from rollout.plans import follow
from rollout.tallies import PLAN_PROPAGATION_MS, TalliesState
from tests.rollout.judging import BETTER, CONFIG, EQUAL, WORSE, Judging, publish_three
from tests.rollout.world import RECEIPTS, label_of, make_answer
from tests.stores import build_manifest, take_lease
from tests.wire.samples import VERDICTS
from wire.records import CANDIDATE, STABLE
from wire.store import Store
from wire.timestamps import now_ms


@pytest.fixture
def published(store: Store) -> Store:
    return publish_three(store)


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
        answer = make_answer(f"event-{number}", judging.plan, EQUAL[number % 2])
        is_wrong = answer.arm == CANDIDATE and answer.label == "yes"
        judging.add(answer, label_of(answer, source="desk", label="no" if is_wrong else "yes"))
    assert {action for action, *_ in judging.actions()} == {"ramped"}


def test_evidence_that_was_changed_by_others_is_not_used(published: Store) -> None:
    judging = Judging(published)
    judging.label(5, EQUAL)
    judging.decider.save({"feedback.v1/0": 5}, {})
    state = published.plans.read_evidence(TalliesState)
    assert state is not None and state.candidate.groups
    published.plans._server.ask("HSET", published.plans._server.key("evidence"), "body", b"{}")
    again = Judging(published)
    assert again.offsets == {}
    assert again.decider.alarms.counts["evidence_unreadable"] == 1


def test_labels_of_a_version_that_was_withdrawn_change_nothing(published: Store) -> None:
    judging = Judging(published)
    bad = {1: True, 2: False, 3: False}
    answers = [make_answer(f"old-{number}", judging.plan, bad) for number in range(100)]
    answers += [make_answer(f"own-{number}", judging.plan, bad, has_own_encoder=True) for number in range(100)]
    judging.label(12, WORSE)
    assert judging.arms() == [(STABLE, 1)]
    published.versions.publish(build_manifest(published, 4, epoch=1, parent=1), take_lease(published))
    published.plans.write(follow(judging.plan, 4, CONFIG, now_ms=now_ms()).plan)
    withdrawn = judging.plan
    for answer in answers:
        judging.add(label_of(answer, source="desk"))
    assert judging.plan == withdrawn


def test_forged_pairs_do_not_count(published: Store) -> None:
    judging = Judging(published)
    for number in range(50):
        answer = make_answer(f"forged-{number}", judging.plan, BETTER[0])
        forged = make_answer(f"forged-{number}", judging.plan, WORSE[0])
        mac = answer.receipt.rpartition(".")[2]
        claimed = f"{forged.receipt.rpartition('.')[0]}.{mac}"
        judging.add(label_of(answer, source="bot", receipt=claimed))
    assert judging.actions() == []
    assert judging.decider.state().counts["label_forged"] == 50


def test_a_receipt_without_its_key_counts_where_its_answer_waits(published: Store) -> None:
    """As it is learnt: the receipt proves whose it is, and says nothing of another entity."""
    judging = Judging(published)
    answer = msgspec.structs.replace(make_answer("a", judging.plan, BETTER[0]), key="customer-7")
    mine = RECEIPTS.of("a", time_ms=answer.time_ms, entity="customer-7", verdicts=VERDICTS)
    other = RECEIPTS.of("a", time_ms=answer.time_ms, entity="customer-8", verdicts=VERDICTS)
    judging.decider.add(msgspec.structs.replace(answer, receipt=mine))
    assert not judging.decider.add(msgspec.structs.replace(label_of(answer, source="desk"), receipt=other, key=""))
    assert judging.decider.add(msgspec.structs.replace(label_of(answer, source="desk"), receipt=mine, key=""))
    assert judging.decider.state().counts["label_forged"] == 1


def test_what_an_operator_changed_meanwhile_is_not_decided_on(published: Store) -> None:
    judging = Judging(published)
    for number in range(30):
        answer = make_answer(f"a-{number}", judging.plan, WORSE[0])
        judging.decider.add(label_of(answer, source="desk"))
    Operator(published, name="test").pin(2, now_ms=1)
    assert not judging.decider.decide()
    assert (judging.plan.stable, judging.plan.pinned) == (2, True)


@pytest.mark.parametrize("is_biased", [False, True])
def test_labels_that_depend_on_the_arm_that_answered_are_an_alarm(published: Store, is_biased: bool) -> None:
    """Who labels wrong answers alone says of each version only where it was shown and wrong."""
    judging = Judging(published, replace(CONFIG, approval="by_hand"))
    judging.later_ms = PLAN_PROPAGATION_MS
    for number in range(300):
        answer = make_answer(f"event-{number}", judging.plan, EQUAL[0], time_ms=now_ms() + 2 * PLAN_PROPAGATION_MS)
        if answer.arm == STABLE or not is_biased:
            judging.add(label_of(answer, source="desk"))
    alarms = judging.decider.alarms.active()
    assert ["depends on the arm" in alarm for alarm in alarms] == [True] * is_biased
