"""What the load has seen."""

import math
from itertools import count

from bench.chaos.ledger import HTTP, KAFKA, LEARNER, ChaosLedger, id_of, number_of
from bench.chaos.timeline import Sign


def ledger() -> ChaosLedger:
    """Its clock goes on by a second at every look; events 0, 3, 6, ... are asked for over HTTP."""
    seconds = count()
    return ChaosLedger(http_every=3, clock_s=lambda: float(next(seconds)))


def test_ids_are_numbers_of_ours_and_no_others() -> None:
    assert number_of(id_of(12)) == 12
    assert [number_of(name) for name in ("12", "chaos-", "chaos-x", "demo-1")] == [None] * 4


def test_an_answer_counts_once_and_its_label_is_due() -> None:
    it = ledger()
    assert [it.sent() for _ in range(2)] == [0, 1]
    assert (it.answered(1), it.answered(1)) == (True, False)
    assert it.signs()[KAFKA] == [Sign(1.0, 2.0)]
    assert (it.num_unanswered, it.num_unlabelled) == (1, 1)


def test_over_http_the_reply_counts_and_not_the_answer_in_the_topic() -> None:
    it = ledger()
    it.sent()
    assert not it.answered(0)
    assert (it.num_unanswered, it.num_unlabelled) == (1, 0)
    it.replied(0, 1.5)
    assert it.signs() == {HTTP: [Sign(1.5, 2.0)], KAFKA: [], LEARNER: [], "rollout": []}
    assert (it.num_unanswered, it.num_unlabelled) == (0, 1)


def test_a_reply_that_says_that_it_cannot_be_labelled_is_answered_and_no_label_is_due() -> None:
    it = ledger()
    it.sent()
    it.replied(0, 1.5, can_be_labelled=False)
    assert (it.num_unanswered, it.num_unlabelled) == (0, 0)
    assert it.as_sent().unlabelled == {0}


def test_a_second_copy_of_a_label_labels_nothing_more() -> None:
    it = ledger()
    for _ in range(2):
        it.sent()
    it.answered(1)
    it.labelled(1)
    it.labelled(1)
    assert it.num_unlabelled == 0
    assert list(it.as_sent().labelled) == [0, 2]


def test_who_is_silent_is_told() -> None:
    it = ledger()
    it.lived(LEARNER, 0.0)
    assert it.silent(0.0) == [HTTP, KAFKA, "rollout"]
    assert it.recovery_s(0.0) == math.inf
