"""The labels of two arms' own answers, which may be taken out again."""

from rollout.arm_count import ArmCount
from rollout.unpaired_rule import ArmEvidence, ArmTally


def test_the_stable_arm_counts_from_the_first_label_of_the_others_on() -> None:
    count = ArmCount()
    count.add_stable(True, 900)
    count.add_newer(False, 1_000)
    for answer_ms in (999, 1_000):
        count.add_stable(True, answer_ms)
    assert (count.evidence, count.since_ms) == (ArmEvidence(ArmTally(1, 1), ArmTally(1, 0)), 1_000)


def test_a_label_is_taken_out_as_it_was_added() -> None:
    count = ArmCount(ArmEvidence(ArmTally(5, 4), ArmTally(3, 2)), since_ms=500)
    before = count.evidence
    removals = [count.add_newer(True, 600), count.add_stable(False, 700), count.add_stable(True, 400)]
    assert count.evidence == ArmEvidence(ArmTally(6, 4), ArmTally(4, 3))
    for remove in removals:
        remove()
    assert count.evidence == before
