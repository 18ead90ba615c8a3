"""What follows from labels, carried out in a real store."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest

from rollout.operator import Operator
from rollout.plans import Rationale, follow, make_stable
from tests.rollout.judging import BETTER, CONFIG, EQUAL, WORSE, Judging, publish_three
from tests.rollout.world import RECEIPTS, label_of, make_answer
from tests.stores import build_manifest, make_entry, take_lease
from wire.records import CANDIDATE, NEWEST, STABLE, Feedback, LabelCommand, LogMark, ReplicaReport, VersionHealth
from wire.store import Store


@pytest.fixture
def published(store: Store) -> Store:
    return publish_three(store)


def test_a_better_candidate_is_promoted_at_once_and_the_newest_is_judged_next(published: Store) -> None:
    judging = Judging(published)
    judging.label(12, BETTER)
    assert judging.arms() == [(STABLE, 2), (CANDIDATE, 3), (NEWEST, 3)]
    assert (judging.plan.previous, judging.plan.reference) == (1, 1)
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
    judging.later_ms = 600_000
    judging.label(30, EQUAL)
    assert judging.arms() == [(STABLE, 2), (CANDIDATE, 3), (NEWEST, 3)]
    assert judging.actions()[-1] == ("promoted", 2, "C")
    assert judging.plan.reference == 1, "it is not better than the reference"


def test_labels_without_receipts_take_those_of_their_answers(published: Store) -> None:
    judging = Judging(published)
    for number in range(12):
        answer = make_answer(f"plain-{number}", judging.plan, BETTER[0])
        judging.decider.add(answer)
        assert judging.decider.add(label_of(answer, source="desk", receipt=""))
    assert judging.decider.decide() and judging.plan.stable == 2


def label_own_answers(judging: Judging, named: Mapping[int, bool]) -> None:
    """Labels 400 events of which each was named by the version alone that answered, as with encoders of their own."""
    for number in range(400):
        answer = make_answer(f"own-{number}", judging.plan, named, has_own_encoder=True)
        judging.decider.add(answer)
        judging.decider.add(label_of(answer, source="desk"))
    judging.add()


def test_versions_with_another_encoder_are_judged_by_their_own_answers(published: Store) -> None:
    judging = Judging(published, replace(CONFIG, min_labels=5))
    label_own_answers(judging, BETTER[0])
    assert judging.actions()[-1] == ("promoted", 3, "unpaired")
    assert judging.plan.versions == (3,)


def test_worse_versions_with_another_encoder_are_withdrawn(published: Store) -> None:
    judging = Judging(published, replace(CONFIG, min_labels=5))
    label_own_answers(judging, {1: True, 2: False, 3: False})
    assert judging.actions()[-1] == ("withdrawn", 3, "unpaired")
    assert (judging.plan.versions, published.versions.current()) == ((1,), 1)


def test_a_candidate_that_the_newest_versions_have_overtaken_is_replaced(published: Store) -> None:
    """It is worse than the stable version, but what was learnt since is not: the learner is not set back."""
    judging = Judging(published)
    judging.label(12, ({1: True, 2: False, 3: True},))
    assert judging.arms() == [(STABLE, 1), (CANDIDATE, 3), (NEWEST, 3)]
    assert (judging.actions(), published.versions.current()) == ([], 3)
    assert "better than the candidate before, version 2" in judging.plan.reason


def test_the_newest_version_is_promoted_where_the_newest_ones_are_better(published: Store) -> None:
    """The candidate does not know what the events of now are about, and would wait for its ramp."""
    judging = Judging(published)
    judging.label(12, ({1: False, 2: False, 3: True},))
    assert judging.arms() == [(STABLE, 3)]
    assert judging.actions()[-1] == ("promoted", 3, "B")
    assert (judging.plan.previous, judging.plan.reference) == (1, 1)


def test_a_shadow_which_answers_nobody_is_judged_as_the_others_are(published: Store) -> None:
    judging = Judging(published, replace(CONFIG, newest_share=0.0))
    shadow = follow(judging.plan, 3, replace(CONFIG, newest_share=0.0), now_ms=1).plan
    published.plans.write(shadow)
    judging.label(12, ({1: False, 2: False, 3: True},))
    assert (shadow.arms[2].share, judging.actions()[-1]) == (0.0, ("promoted", 3, "B"))


@pytest.mark.parametrize(("tensor", "reference"), [("head.out", 1), ("layers.0", 4)])
def test_the_reference_moves_to_a_version_with_a_new_encoder(published: Store, tensor: str, reference: int) -> None:
    """No later version could be compared with the old one. A version with a new head alone leaves it in place."""
    judging = Judging(published)
    published.plans.write(make_stable(judging.plan, 2, Rationale("A", "additive"), now_ms=1).plan)
    manifest = build_manifest(published, 4, epoch=1, parent=published.versions.current())
    tensors = (make_entry(published, b"weights of a version", tensor),)
    published.versions.publish(msgspec.structs.replace(manifest, tensors=tensors), take_lease(published))
    for version in (3, 4):
        published.plans.write(follow(judging.plan, version, CONFIG, now_ms=1).plan)
    judging.label(12, ({1: True, 2: False, 3: False, 4: True},))
    assert (judging.plan.stable, judging.plan.reference) == (4, reference)


def test_a_stable_version_that_turned_bad_gives_way_to_the_one_before(published: Store) -> None:
    judging = Judging(published)
    Operator(published, name="test", config=CONFIG).promote(2, now_ms=1)
    judging.label(60, ({1: True, 2: False, 3: False},))
    assert judging.arms() == [(STABLE, 1)]
    assert (judging.actions()[-1], published.versions.current()) == (("withdrawn", 2, "change"), 1)


ALL_BAD = {1: True, 2: False, 3: False}


def test_a_chain_of_stable_versions_that_turned_bad_gives_way_to_the_reference(published: Store) -> None:
    """Each is stable for too short a time to be judged alone."""
    judging = Judging(published)
    reference = judging.plan.reference
    answers = []
    for version in (2, 3):
        plan = judging.plan
        published.plans.write(make_stable(plan, version, Rationale("A", "additive"), now_ms=1).plan)
        answers += [make_answer(f"late-{version}-{number}", judging.plan, ALL_BAD) for number in range(20)]
        judging.label(7, (ALL_BAD,))
    assert (judging.plan.stable, judging.actions()[-1][2]) == (reference, "change")
    returned = judging.plan
    for answer in answers:
        judging.add(label_of(answer, source="desk"))
    assert judging.plan == returned, "labels of what was withdrawn come late"


def test_what_replicas_report_of_the_candidate_adds_up_and_withdraws_it(published: Store) -> None:
    judging = Judging(published)
    for replica in ("one", "two"):
        health = (VersionHealth(version=1, answers=900), VersionHealth(version=2, answers=100, errors=2))
        published.reports.write_replica(
            ReplicaReport(replica=replica, revision=1, versions=(1, 2), time_ms=1, health=health)
        )
    judging.decider.follow_health()
    judging.add()
    assert judging.actions()[-1] == ("withdrawn", 2, "")
    assert judging.arms() == [(STABLE, 1)] and "its answers fail" in judging.plan.reason


def test_worse_newest_versions_are_an_objection_to_what_their_manifests_say(published: Store) -> None:
    judging = Judging(published)
    assert not judging.decider.state().objection
    judging.label(12, ({1: True, 2: True, 3: False},))
    assert "worse than the stable one, 0 won, 0 tied, 12 lost" in judging.decider.state().objection


def test_stable_versions_that_may_be_worse_than_the_reference_are_one_too(published: Store) -> None:
    judging = Judging(published)
    published.plans.write(make_stable(judging.plan, 3, Rationale("A", "additive"), now_ms=1).plan)
    judging.label(8, (ALL_BAD,))
    assert judging.plan.stable == 3
    assert "worse than the reference, 0 won, 0 tied, 8 lost" in judging.decider.state().objection


def test_by_hand_a_version_waits_for_its_approval(published: Store) -> None:
    judging = Judging(published, replace(CONFIG, approval="by_hand"))
    judging.label(30, BETTER)
    assert judging.plan.stable == 1
    assert "lifelong rollout approve 2" in judging.decider.state().waits_for
    Operator(published, name="test").approve(None, now_ms=1)
    judging.add()
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


def test_a_decider_that_starts_amid_a_ramp_goes_on_where_the_last_one_was(published: Store) -> None:
    before = Judging(published)
    before.label(100, EQUAL)
    share = before.plan.arms[1].share
    before.decider.save({"feedback.v1/0": 100}, {"feedback.v1/0": LogMark(log="a log", log_ms=7)})
    after = Judging(published)
    assert after.offsets == {"feedback.v1/0": 100}
    assert after.marks == {"feedback.v1/0": LogMark(log="a log", log_ms=7)}
    assert after.decider.state().evidence == before.decider.state().evidence
    assert after.plan.arms[1].share == share == 0.5
    after.label(300, EQUAL)
    after.later_ms = 600_000
    after.label(30, EQUAL)
    assert after.plan.stable == 2


def test_a_label_is_corrected_by_a_decider_that_started_after_it(published: Store) -> None:
    before = Judging(published, replace(CONFIG, approval="by_hand"))
    answer = make_answer("event", before.plan, BETTER[0])
    wrong = msgspec.structs.replace(label_of(answer, source="desk", label="no"), event_source="shop")
    before.add(wrong)
    before.decider.save({"feedback.v1/0": 1}, {})
    after = Judging(published, replace(CONFIG, approval="by_hand"))
    assert "0 won, 0 tied, 1 lost" in after.decider.state().evidence
    after.add(wrong)
    assert after.decider.state().counts == {"label_repeated": 1}
    right = Feedback(event_id="event", label="yes", source="head", event_source="shop")
    after.add(RECEIPTS.approved(right))
    assert "1 won, 0 tied, 0 lost" in after.decider.state().evidence


def test_labels_count_by_the_names_of_now(published: Store) -> None:
    """The answers named the class "no" by its old name; a label that was retired counts for nothing."""
    judging = Judging(published)
    rename = LabelCommand(number=1, action="rename", labels=("no",), to=("yes",))
    published.commands.append(rename)
    published.commands.append(LabelCommand(number=2, action="retire", labels=("spam",)))
    judging.decider.follow_health()
    judging.label(12, WORSE)
    assert judging.arms()[:2] == [(STABLE, 1), (CANDIDATE, 2)] and "0 won" in judging.decider.state().evidence
    answer = make_answer("spam", judging.plan, {1: True, 2: True, 3: True})
    judging.add(answer, label_of(answer, source="desk", label="spam"))
    assert judging.decider.state().counts["label_retired"] == 1
    judging.add(answer, label_of(answer, source="desk", label="no"))
    assert judging.decider.state().counts["judged"] == 13
