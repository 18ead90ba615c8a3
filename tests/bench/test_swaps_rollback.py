"""Checks the rows of the rollbacks."""

from bench.swaps import NUM_ROLLBACKS, Answered, Rollback, rollback_rows, seconds_to_the_last_answer


def test_answers_under_any_earlier_plan_are_late() -> None:
    rollbacks = [Rollback(1_000, 5), Rollback(2_000, 7)]
    answers = [
        Answered(1_010, 5),
        Answered(1_300, 4),
        Answered(1_950, 6),
        Answered(2_040, 6),
        Answered(2_050, 7),
        Answered(2_900, 8),
    ]
    assert seconds_to_the_last_answer(rollbacks, answers) == [0.3, 0.04]


def test_without_a_late_answer_a_rollback_took_no_time() -> None:
    assert seconds_to_the_last_answer([Rollback(1_000, 5)], [Answered(900, 4), Answered(1_100, 5)]) == [0.0]
    assert seconds_to_the_last_answer([Rollback(1_000, 5)], []) == [0.0]


def test_there_is_a_value_only_if_every_rollback_was_followed() -> None:
    rollbacks = [Rollback(1_000 * number, 2 * number) for number in range(1, NUM_ROLLBACKS + 1)]
    answers = [Answered(rollback.time_ms + 40, rollback.revision - 1) for rollback in rollbacks]
    p99, p50 = rollback_rows(rollbacks, answers)
    assert (p99.calls[0].value, p99.met, p50.calls[0].value) == (0.04, True, 0.04)
    p99, p50 = rollback_rows(rollbacks[1:], answers)
    assert (p99.calls[0].value, p99.met) == (None, False)
    assert p50.calls[0].note == "99 rollbacks were followed within 30 s, 100 expected"
