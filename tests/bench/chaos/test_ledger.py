"""Checks the records of the load."""

import math
from itertools import count

from bench.chaos.judge import Heartbeat
from bench.chaos.ledger import HTTP, KAFKA, LEARNER, ChaosLedger


def ledger() -> ChaosLedger:
    """Makes a ledger whose clock advances by a second at every reading. Events 0, 3, 6, ... are sent over HTTP."""
    seconds = count()
    return ChaosLedger(http_every=3, clock_s=lambda: float(next(seconds)))


def test_an_answer_counts_once_and_its_label_is_due() -> None:
    book = ledger()
    assert [book.record_sent() for _ in range(2)] == [0, 1]
    assert (book.record_answer(1), book.record_answer(1)) == (True, False)
    assert book.heartbeats()[KAFKA] == [Heartbeat(1.0, 2.0)]
    assert (math.isnan(book.answered_again_s(0)), book.answered_again_s(1)) == (True, 3.0)
    assert (book.num_unanswered, book.num_unlabelled) == (1, 1)


def test_over_http_the_reply_counts_and_not_the_answer_in_the_topic() -> None:
    book = ledger()
    book.record_sent()
    assert not book.record_answer(0)
    assert (book.num_unanswered, book.num_unlabelled) == (1, 0)
    book.record_reply(0, 1.5)
    assert book.heartbeats() == {HTTP: [Heartbeat(1.5, 2.0)], KAFKA: [], LEARNER: [], "rollout": []}
    assert (book.num_unanswered, book.num_unlabelled) == (0, 1)


def test_a_reply_that_allows_no_label_counts_as_answered_and_no_label_is_due() -> None:
    book = ledger()
    book.record_sent()
    book.record_reply(0, 1.5, can_be_labelled=False)
    assert (book.num_unanswered, book.num_unlabelled) == (0, 0)
    assert book.as_sent().unlabelled == {0}


def test_a_second_copy_of_a_label_labels_nothing_more() -> None:
    book = ledger()
    for _ in range(2):
        book.record_sent()
    book.record_answer(1)
    book.record_label(1)
    book.record_label(1)
    assert book.num_unlabelled == 0
    assert list(book.as_sent().labelled) == [0, 2]


def test_silent_tracks_are_listed() -> None:
    book = ledger()
    book.record_heartbeat(LEARNER, 0.0)
    assert book.silent(0.0) == [HTTP, KAFKA, "rollout"]
    assert book.recovery_s(0.0) == math.inf


def test_events_lost_in_a_power_cut_are_excused_until_an_answer_comes() -> None:
    book = ledger()
    for _ in range(5):
        book.record_sent()
    book.record_answer(1)
    book.record_lost([0, 1, 2])
    assert (book.num_excused, book.num_unanswered) == (1, 3), "0 is asked for over HTTP until it is answered"
    book.record_answer(2)
    assert (book.num_excused, book.num_unanswered) == (0, 3)


def test_the_time_since_the_last_answer_is_known() -> None:
    book = ledger()
    book.record_sent()
    book.record_sent()
    assert book.answered_since_s() == math.inf
    book.record_answer(1)
    assert book.answered_since_s() == 1.0


def test_a_reply_has_the_revision_of_its_plan() -> None:
    book = ledger()
    book.record_sent()
    book.record_reply(0, 0.5, revision=7)
    assert book.replies() == [(Heartbeat(0.5, 1.0), 7)]
