"""What labels and answers say about the versions of a plan."""

from dataclasses import replace
from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.comparison import PairCount
from rollout.judged_events import JudgedLabel
from rollout.paired_rule import PairedEvidence
from rollout.statistics import NO_LABELS, PairedTally
from rollout.tallies import MIN_DELAYS, Tallies, TalliesState
from rollout.unpaired_rule import ArmEvidence, ArmTally
from tests.rollout.test_tallies_arm_traffic import answer
from wire.receipts import Verdicts
from wire.records import CANDIDATE, NEWEST, STABLE, Arm, ArmName, RolloutPlan

PLAN = RolloutPlan(
    revision=5,
    salt="s",
    arms=(
        Arm(name=STABLE, version=4, share=0.75),
        Arm(name=CANDIDATE, version=6, share=0.125),
        Arm(name=NEWEST, version=9, share=0.125),
    ),
    previous=3,
    reference=2,
)

RIGHT = 1
WRONG = 0


_numbers = count(1)


def label(names: dict[int, int], *, arm: ArmName = STABLE, version: int = 4, answer_ms: int = 1_000) -> JudgedLabel:
    """Returns the next label; `names` says which versions were at hand, and which of them named it."""
    verdicts = Verdicts(arm, version, tuple(names.items()))
    return JudgedLabel(verdicts=verdicts, name=RIGHT, source="desk", answer_ms=answer_ms, number=next(_numbers))


@pytest.fixture
def tallies() -> Tallies:
    tallies = Tallies()
    tallies.follow(PLAN)
    return tallies


def find_evidence(tallies: Tallies) -> PairedEvidence:
    return tallies.evidence(stable_share=0.75, is_ramp_over=False)


def test_a_label_judges_each_pair_that_was_at_hand_whichever_answered(tallies: Tallies) -> None:
    tallies.add_label(label({2: WRONG, 3: RIGHT, 4: WRONG, 6: RIGHT, 9: RIGHT}, arm=NEWEST, version=9), 1_000)
    evidence = find_evidence(tallies)
    assert evidence.stable.labels == evidence.reference.labels == PairedTally(wins=1)
    assert evidence.class_groups == (PairedTally(wins=1),)
    assert tallies.stable_watch.export() != Tallies().stable_watch.export()
    assert tallies.chain.labels == NO_LABELS, "another arm than the stable one answered"


def test_versions_of_another_encoder_are_judged_by_their_own_answers(tallies: Tallies) -> None:
    tallies.add_label(label({4: RIGHT}, answer_ms=900), 1_000)
    tallies.add_label(label({6: RIGHT, 9: WRONG}, arm=CANDIDATE, version=6), 1_000)
    tallies.add_label(label({9: WRONG}, arm=NEWEST, version=9), 1_000)
    tallies.add_label(label({4: RIGHT}, answer_ms=1_000), 1_000)
    assert find_evidence(tallies).stable.labels == NO_LABELS
    assert tallies.newest.stable.labels == NO_LABELS
    assert (tallies.arms.stable, tallies.arms.candidate) == (ArmTally(1, 1), ArmTally(2, 1))
    assert "another encoder: candidate 1/2" in str(tallies)


def test_the_newest_versions_are_one_chain_beside_the_stable_one(tallies: Tallies) -> None:
    for version in (7, 8, 9):
        tallies.add_label(label({4: WRONG, 6: WRONG, version: RIGHT}), 1_000)
    assert tallies.newest.stable.labels == PairedTally(wins=3)
    assert find_evidence(tallies).stable.labels == PairedTally(ties=3)
    assert tallies.arms == ArmEvidence(), "they share the encoder"
    tallies.follow(msgspec.structs.replace(PLAN, arms=(Arm(name=STABLE, version=9, share=1.0),)))
    assert tallies.newest.stable.labels == NO_LABELS


def test_labels_of_other_versions_count_for_nobody(tallies: Tallies) -> None:
    tallies.add_label(label({2: RIGHT, 3: WRONG}, version=3), 1_000)
    assert (find_evidence(tallies).stable.labels, tallies.newest.stable.labels) == (NO_LABELS, NO_LABELS)
    assert tallies.arms == ArmEvidence()


def test_the_stable_versions_are_one_chain_beside_the_reference(tallies: Tallies) -> None:
    for stable in (4, 5, 7):
        tallies.follow(msgspec.structs.replace(PLAN, arms=(Arm(name=STABLE, version=stable, share=1.0),)))
        tallies.add_label(label({2: WRONG, stable: RIGHT}, version=stable), 1_000)
    assert tallies.chain.labels == PairedTally(wins=3)
    tallies.follow(msgspec.structs.replace(PLAN, reference=4))
    assert tallies.chain.labels == NO_LABELS


def test_what_is_known_about_a_pair_ends_with_it(tallies: Tallies) -> None:
    tallies.add_label(label({2: WRONG, 3: WRONG, 4: WRONG, 6: RIGHT}), 1_000)
    tallies.follow(msgspec.structs.replace(PLAN, revision=6, reference=4))
    assert find_evidence(tallies).stable.labels == PairedTally(wins=1)
    assert find_evidence(tallies).reference.labels == NO_LABELS
    arms = (PLAN.arms[0], Arm(name=CANDIDATE, version=9, share=0.125))
    tallies.follow(msgspec.structs.replace(PLAN, revision=7, arms=arms))
    assert find_evidence(tallies).stable.labels == NO_LABELS


def test_an_event_is_settled_when_nine_of_ten_labels_have_come(tallies: Tallies) -> None:
    for number in range(MIN_DELAYS):
        delay_ms = 60_000 if number == 0 else 4_000
        tallies.add_label(label({4: WRONG, 6: RIGHT}, answer_ms=100_000 - delay_ms), 100_000)
    tallies.settle_events(100_500)
    assert find_evidence(tallies).stable.settled == PairedTally(wins=1), "the one that came after a minute"
    tallies.settle_events(102_000)
    assert find_evidence(tallies).stable.settled == PairedTally(wins=MIN_DELAYS)


def test_answers_are_counted_for_the_arms_of_now(tallies: Tallies) -> None:
    for arm, key in ((STABLE, "a"), (CANDIDATE, "c"), (CANDIDATE, "c")):
        tallies.add_answer(answer(arm, key))
    assert (find_evidence(tallies).traffic.keys, tallies.num_answers) == ((1, 1), 2)
    arms = (Arm(name=STABLE, version=4, share=0.5), Arm(name=CANDIDATE, version=6, share=0.5))
    tallies.follow(msgspec.structs.replace(PLAN, revision=6, arms=arms))
    assert (find_evidence(tallies).traffic.keys, tallies.num_answers) == ((0, 0), 0)


def test_it_goes_on_from_its_record(tallies: Tallies) -> None:
    tallies.add_label(label({2: WRONG, 3: RIGHT, 4: WRONG, 6: RIGHT}), 1_000)
    tallies.add_answer(answer(CANDIDATE, "c"))
    state = tallies.export({"feedback.v1/0": 7})
    again = Tallies(msgspec.json.decode(msgspec.json.encode(state), type=TalliesState))
    again.follow(msgspec.structs.replace(PLAN, revision=8))
    assert again.export({"feedback.v1/0": 7}) == state
    assert (str(again), again.num_answers) == ("version 6 against 4: 1 won, 0 tied, 0 lost", 1)


NAMES = {2: WRONG, 3: RIGHT, 4: WRONG, 6: RIGHT, 9: RIGHT}


def restarted(tallies: Tallies) -> Tallies:
    """Returns the tallies as a controller has them that starts now."""
    again = Tallies(msgspec.json.decode(msgspec.json.encode(tallies.export({})), type=TalliesState))
    again.follow(PLAN)
    return again


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_label_that_is_corrected_is_as_if_the_right_one_had_come_first(tallies: Tallies, is_restarted: bool) -> None:
    corrected = Tallies()
    corrected.follow(PLAN)
    wrong = replace(label(NAMES), name=WRONG, source="bot")
    for each in (tallies, corrected):
        each.add_label(label(NAMES), 1_000)
    tallies.add_label(label(NAMES), 1_000)
    corrected.add_label(wrong, 1_000)
    assert find_evidence(corrected) != find_evidence(tallies)
    if is_restarted:
        corrected = restarted(corrected)
    corrected.add_label(replace(label(NAMES), corrected=wrong), 1_000)
    assert find_evidence(corrected) == find_evidence(tallies)
    assert corrected.chain.labels == tallies.chain.labels
    assert corrected.newest == tallies.newest


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_label_of_an_own_encoder_is_corrected_too(tallies: Tallies, is_restarted: bool) -> None:
    early = label({4: RIGHT})
    newer = label({9: RIGHT}, arm=NEWEST, version=9)
    stable = label({4: RIGHT})
    for each in (early, newer, stable):
        tallies.add_label(each, 1_000)
    if is_restarted:
        tallies = restarted(tallies)
    for each in (early, newer, stable):
        tallies.add_label(replace(each, name=2, number=next(_numbers), corrected=each), 1_000)
    assert tallies.arms == ArmEvidence(ArmTally(2, 0), ArmTally(1, 0)), "the early one counts now"


def test_labels_that_were_asked_for_are_counted_by_themselves_too(tallies: Tallies) -> None:
    tallies.add_label(label(NAMES), 1_000)
    asked = replace(label(NAMES), is_audited=True)
    tallies.add_label(asked, 1_000)
    assert (
        find_evidence(tallies).audited.labels == find_evidence(restarted(tallies)).audited.labels == PairedTally(wins=1)
    )
    tallies.add_label(replace(asked, name=WRONG, number=next(_numbers), corrected=asked), 1_000)
    assert find_evidence(tallies).audited.labels == PairedTally(losses=1)


def test_a_correction_of_a_pair_that_is_over_changes_no_other(tallies: Tallies) -> None:
    wrong = label({4: WRONG, 6: RIGHT, 9: RIGHT})
    tallies.add_label(wrong, 1_000)
    tallies.settle_events(9_000)
    arms = (PLAN.arms[0], Arm(name=CANDIDATE, version=9, share=0.125))
    tallies.follow(msgspec.structs.replace(PLAN, revision=7, arms=arms))
    tallies.add_label(replace(label({4: WRONG, 6: RIGHT, 9: RIGHT}), name=WRONG, corrected=wrong), 1_000)
    assert find_evidence(tallies).stable.labels == PairedTally(losses=1)


@given(st.lists(st.tuples(st.sampled_from("lcpsr"), st.integers(0, 99)), max_size=40))
def test_corrected_labels_leave_the_tallies_of_the_labels_that_count(steps: list[tuple[str, int]]) -> None:
    """Labels, corrections, new plans, settled events and restarts in any order: no count is below zero at the end."""
    tallies = Tallies()
    tallies.follow(PLAN)
    labels: list[JudgedLabel] = []
    candidate = 6
    for step, number in steps:
        arms = (PLAN.arms[0], Arm(name=CANDIDATE, version=candidate, share=0.125), PLAN.arms[2])
        plan = msgspec.structs.replace(PLAN, revision=6, arms=arms)
        if step == "l":
            labels.append(label({2: WRONG, 4: number % 2, candidate: number % 3}, answer_ms=10 * number))
            tallies.add_label(labels[-1], 1_000)
        elif step == "c" and labels:
            before = labels[number % len(labels)]
            after = replace(before, name=1 - before.name, number=next(_numbers), corrected=before)
            tallies.add_label(after, 1_000)
            labels[number % len(labels)] = replace(after, corrected=None)
        elif step == "p":
            candidate = 6 + number % 3
        elif step == "s":
            tallies.settle_events(10 * number)
        else:
            tallies = Tallies(tallies.export({}))
        tallies.follow(plan)
    state = tallies.export({})
    for pair in (state.candidate, state.candidate_to_reference, state.newest, state.chain):
        for _, tally in (*pair.groups, *pair.classes, *pair.waiting, (0, pair.settled)):
            assert min(tally.wins, tally.ties, tally.losses) >= 0, pair
    assert PairCount(state.chain).labels.labels == len(labels)
