"""The records that the reference learner reads, up to given offsets."""

from bench.chaos.recomputed import _reader
from wire.records import Feedback


def test_each_record_is_read_once_up_to_the_offsets_and_answers_come_first() -> None:
    labels = [(offset, Feedback(event_id=str(offset), label="x")) for offset in (0, 2, 3)]
    others = [(0, Feedback(event_id="other", label="x"))]
    read_to = _reader({"feedback.v1/0": labels, "answers.v1/0": others})
    first = [[record.event_id for record in records] for records in read_to({"feedback.v1/0": 3, "answers.v1/0": 1})]
    assert first == [["other"], ["0", "2"]]
    # Records that were read are not read again.
    assert list(read_to({"feedback.v1/0": 1})) == [[], []]
    rest = [[record.event_id for record in records] for records in read_to({"feedback.v1/0": 9})]
    assert rest == [[], ["3"]]
