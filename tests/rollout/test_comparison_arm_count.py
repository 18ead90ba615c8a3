"""The labels of two arms' own answers, which may be taken out again."""

import msgspec

from rollout.comparison import ArmCount, ArmCountState
from rollout.unpaired_rule import ArmEvidence, ArmTally


def test_the_stable_arm_counts_from_the_first_label_of_the_others_on() -> None:
    count = ArmCount()
    count.add(True, is_newer=False, answer_ms=900, number=1)
    count.add(False, is_newer=True, answer_ms=1_000, number=2)
    for answer_ms in (999, 1_000):
        count.add(True, is_newer=False, answer_ms=answer_ms, number=3)
    assert count.export() == ArmCountState(
        evidence=ArmEvidence(ArmTally(1, 1), ArmTally(1, 0)), since_ms=1_000, first=2
    )


def test_a_label_is_taken_out_as_it_was_added_also_after_a_restart() -> None:
    labels = [(True, True, 600, 7), (False, False, 700, 8), (True, False, 400, 9), (True, False, 900, 3)]
    count = ArmCount()
    count.add(False, is_newer=True, answer_ms=500, number=4)
    before = count.evidence
    for is_right, is_newer, answer_ms, number in labels[:3]:
        count.add(is_right, is_newer=is_newer, answer_ms=answer_ms, number=number)
    assert count.evidence == ArmEvidence(ArmTally(1, 0), ArmTally(2, 1))
    count = ArmCount(msgspec.json.decode(msgspec.json.encode(count.export()), type=ArmCountState))
    for is_right, is_newer, answer_ms, number in labels:
        count.remove(is_right, is_newer=is_newer, answer_ms=answer_ms, number=number)
    assert count.evidence == before
