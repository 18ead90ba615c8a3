"""Checks the judge on small runs, each with one of the errors that it must find."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.judge import REBALANCE_S, Interruption, Sent, TopicCounts, Verdict, count_outcomes, in_flight, judge
from bench.chaos.synced import LostTails

NONE = math.nan


def is_http(number: int) -> bool:
    return number % 10 == 0


def sent(
    answered_s: Sequence[float], *, replied_s: Sequence[float] = (), labelled: Sequence[int] | None = None
) -> Sent:
    """Makes events; event n is sent at second n."""
    num = len(answered_s)
    return Sent(
        sent_s=[float(number) for number in range(num)],
        answered_s=answered_s,
        replied_s=replied_s or [0.0 if is_http(number) else NONE for number in range(num)],
        labelled=[1] * num if labelled is None else labelled,
        unlabelled=frozenset(),
        is_http=is_http,
    )


def topics(answers: Sequence[int], *, letters: Sequence[int] = (), labels: Sequence[int] | None = None) -> TopicCounts:
    """Makes the contents of the topics. Each answered event has a label there, unless `labels` is given."""
    copies = answers if labels is None else labels
    return TopicCounts(answers=Counter(answers), dead_letters=Counter(letters), labels=Counter(copies))


def counts(num: int, **more: int) -> dict[str, int]:
    """Returns the counters of a learner that has learnt `num` labels."""
    return {"labels": num, "matched": num, "learnt": num} | more


def test_a_run_without_errors_has_an_empty_verdict() -> None:
    verdict = judge(sent([0.1, 1.1, 2.1]), topics([0, 1, 2]), counts(3), [], LostTails())
    assert verdict == Verdict(
        lost=(),
        num_lost_with_tails=0,
        unpublished=(),
        twice=(),
        twice_elsewhere=(),
        num_in_flight=0,
        unaccounted={},
        learnt_share=1.0,
    )


def test_an_event_without_answer_or_dead_letter_is_lost() -> None:
    verdict = judge(sent([0.1, NONE, NONE, 3.1]), topics([0, 3], letters=[2]), counts(2), [], LostTails())
    assert verdict.lost == (1,)


def test_over_http_a_reply_counts_and_its_answer_must_be_in_the_topic() -> None:
    asked = sent([0.1] * 21, replied_s=[NONE] * 10 + [10.1] + [NONE] * 9 + [20.1])
    verdict = judge(asked, topics([number for number in range(21) if number != 20]), counts(20), [], LostTails())
    assert verdict.lost == (0,)
    assert verdict.unpublished == (20,)
    known = judge(replace(asked, unlabelled=frozenset({20})), topics(list(range(20))), counts(20), [], LostTails())
    assert (known.lost, known.unpublished) == ((0,), ()), "its client was told that it cannot be labelled"


def test_an_event_is_answered_twice_however_often_it_was() -> None:
    assert judge(sent([0.1, 1.1]), topics([0, 0, 0, 1]), counts(2), [], LostTails()).twice == (0,)


def test_an_event_that_is_answered_twice_must_have_been_in_flight_itself() -> None:
    """It is not enough that fewer were answered twice than were in flight."""
    span = Interruption("kill", 2.0, 2.0, 3.0 - REBALANCE_S)
    verdict = judge(sent([0.1, 1.1, 7.1, 8.1]), topics([0, 0, 1, 2, 2, 3]), counts(4), [span], LostTails())
    assert (verdict.twice, verdict.twice_elsewhere, verdict.num_in_flight) == ((0, 2), (0,), 3)


@pytest.mark.parametrize(
    ("answered_s", "is_in_flight"),
    [
        (3.0, False),  # long before the fault: the offset was committed
        (9.5, True),  # shortly before the fault: the offset may not have been committed
        (12.0, True),  # during the fault
        (30.0, True),  # long after the fault
        (NONE, True),  # never
    ],
)
def test_an_event_is_in_flight_unless_its_offset_was_surely_committed(answered_s: float, is_in_flight: bool) -> None:
    one = sent([answered_s])
    assert in_flight(one, [Interruption("kill", 10.0, 14.0, 15.0)]) == ({0} if is_in_flight else set())


def test_without_recovery_everything_is_in_flight() -> None:
    assert in_flight(sent([NONE] * 20), [Interruption("kill", 3.0, 4.0)]) == set(range(20))


def test_an_event_sent_after_the_recovery_was_not_in_flight() -> None:
    later = sent([NONE] * 20)
    spans = [Interruption("kill", 3.0, 4.0, 5.0), Interruption("kill", 6.0, 6.5, 6.9)]
    assert in_flight(later, spans) == set(range(int(6.9 + REBALANCE_S) + 1))


@pytest.mark.parametrize(
    ("labelled", "labels", "counted", "reason"),
    [
        ([1, 1], [0], counts(1), "acknowledged, not in the topic"),
        ([1, 2], [0, 1, 1], counts(2), "in the topic, not counted"),
        ([1, 1], [0, 1], counts(3), "counted, not in the topic"),
        ([1, 1], [0, 1], {"labels": 2, "matched": 1, "learnt": 1}, "counted to no end, or to two"),
        ([1, 2], [0, 1, 1], {"labels": 3, "matched": 3, "learnt": 3}, "learnt twice"),
        ([1, 1], [0, 1], counts(2, letters_lost=1), "could not be quarantined"),
    ],
)
def test_unaccounted_labels_are_counted_by_reason(
    labelled: list[int], labels: list[int], counted: dict[str, int], reason: str
) -> None:
    verdict = judge(sent([0.1, 1.1], labelled=labelled), topics([0, 1], labels=labels), counted, [], LostTails())
    assert verdict.unaccounted[reason] == 1


def test_labels_in_the_sums_and_in_the_holdout_count_as_learnt() -> None:
    counted = {"labels": 5, "matched": 3, "learnt": 2, "holdout": 1, "duplicate": 1, "parked": 1}
    verdict = judge(
        sent([0.1] * 4, labelled=[2, 1, 1, 1]), topics([0, 1, 2], labels=[0, 0, 1, 2, 3]), counted, [], LostTails()
    )
    assert (verdict.num_unaccounted, verdict.learnt_share) == (0, 0.75)


@given(
    st.dictionaries(
        st.sampled_from(["matched", "late", "orphan", "refused_forged", "quarantined_flip"]), st.integers(0, 9)
    )
)
def test_every_outcome_is_counted_once(ends: dict[str, int]) -> None:
    assert count_outcomes(ends | {"answers": 99, "early": 7, "learnt": 5}) == sum(ends.values())


TAILS = LostTails(events=Counter([1]), answers=Counter([2]), labels=Counter([2, 3]))


def test_events_in_a_tail_are_counted_apart_from_other_losses() -> None:
    verdict = judge(sent([0.1, NONE, NONE, 3.1, NONE]), topics([0, 3]), counts(2), [], TAILS)
    assert (verdict.lost, verdict.num_lost_with_tails) == ((4,), 2)


@pytest.mark.parametrize("num_counted", [2, 3, 4])
def test_a_label_in_a_tail_may_have_been_counted_and_need_not(num_counted: int) -> None:
    verdict = judge(sent([0.1] * 4), topics([0, 1, 2, 3], labels=[0, 1]), counts(num_counted), [], TAILS)
    assert (verdict.unaccounted, verdict.learnt_share) == ({}, 1.0)


def test_no_label_is_learnt_twice_for_a_tail() -> None:
    verdict = judge(sent([0.1] * 4), topics([0, 1, 2, 3], labels=[0, 1]), counts(5), [], TAILS)
    assert verdict.unaccounted == {"counted, not in the topic": 1, "learnt twice": 1}


def test_labels_of_other_clients_are_counted_and_are_no_loss() -> None:
    there = replace(topics([0, 1]), num_other_labels=3)
    assert judge(sent([0.1, 1.1]), there, counts(5), [], LostTails()).unaccounted == {}
    assert judge(sent([0.1, 1.1]), there, counts(6), [], LostTails()).unaccounted["learnt twice"] == 1
