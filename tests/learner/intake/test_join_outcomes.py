"""The outcomes of labels are counted, and too many without an answer are an alarm."""

from collections import Counter

from learner.intake.join import MIN_LABELS, RECENT, LabelOutcomes, Unmatched


def outcomes(**numbers: int) -> LabelOutcomes:
    counted = LabelOutcomes(Counter(), [])
    for outcome, number in numbers.items():
        for _ in range(number):
            counted.add(outcome)
    return counted


def test_few_labels_raise_no_alarm() -> None:
    assert outcomes(late=MIN_LABELS - 1).alarms() == []


def test_a_share_of_late_labels_says_which_setting_helps() -> None:
    (alarm,) = outcomes(matched=180, late=20).alarms()
    assert alarm.startswith("10.0% of the last 200 labels came after their answer had left its window")
    assert "learner.pending_bytes" in alarm


def test_one_in_a_hundred_is_no_alarm() -> None:
    assert outcomes(matched=198, late=1, orphan=1).alarms() == []


def test_only_the_last_labels_count() -> None:
    assert outcomes(orphan=500, matched=RECENT).alarms() == []


def test_what_was_exported_goes_on() -> None:
    before = outcomes(matched=50, orphan=50)
    after = LabelOutcomes(Counter(), before.export())
    assert after.alarms() == before.alarms()
    assert len(after.alarms()) == 1


def test_each_outcome_counts_under_a_name_of_its_own() -> None:
    assert len({reason.value for reason in Unmatched}) == len(Unmatched)
