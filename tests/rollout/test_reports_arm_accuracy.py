"""How accurate the arms are, by the last labels of each."""

from rollout.judged_events import JudgedLabel
from rollout.reports import ACCURACY_BLOCK, ArmAccuracies, ArmCounts, with_bounds
from rollout.statistics import share_interval
from wire.receipts import Verdicts
from wire.records import CANDIDATE, STABLE, ArmAccuracy, ArmName


def label(arm: ArmName, version: int, *, is_right: bool, corrected: JudgedLabel | None = None) -> JudgedLabel:
    names = ((version, 7 if is_right else 8), (99, 7))
    return JudgedLabel(verdicts=Verdicts(arm, version, names), name=7, source="", answer_ms=1, corrected=corrected)


def test_each_arm_has_its_labels_whatever_its_versions() -> None:
    arms = ArmAccuracies()
    assert arms.counts() == ()
    for version in (1, 2, 3):
        arms.add(label(STABLE, version, is_right=version != 2))
    arms.add(label(CANDIDATE, 4, is_right=False))
    assert arms.counts() == (ArmCounts(CANDIDATE, 1, 0), ArmCounts(STABLE, 3, 2))


def test_a_correction_counts_no_second_time() -> None:
    arms = ArmAccuracies()
    first = label(STABLE, 1, is_right=True)
    arms.add(first)
    arms.add(label(STABLE, 1, is_right=False, corrected=first))
    assert arms.counts() == (ArmCounts(STABLE, 1, 1),)


def test_labels_of_long_ago_are_forgotten() -> None:
    arms = ArmAccuracies()
    for _ in range(ACCURACY_BLOCK):
        arms.add(label(STABLE, 1, is_right=False))
    for _ in range(ACCURACY_BLOCK):
        arms.add(label(STABLE, 2, is_right=True))
    assert arms.counts() == (ArmCounts(STABLE, 2 * ACCURACY_BLOCK, ACCURACY_BLOCK),)
    arms.add(label(STABLE, 2, is_right=True))
    assert arms.counts() == (ArmCounts(STABLE, ACCURACY_BLOCK + 1, ACCURACY_BLOCK + 1),)


def test_a_report_has_the_bounds() -> None:
    low, high = share_interval(30, 40)
    assert with_bounds(ArmCounts(STABLE, 40, 30)) == ArmAccuracy(arm=STABLE, labels=40, right=30, low=low, high=high)
