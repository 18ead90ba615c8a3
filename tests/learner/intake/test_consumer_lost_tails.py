"""N6, on a real Kafka whose topics lose their last records: the learner learns nothing again, and all that is new."""

import msgspec
import pytest

from learner.intake.consumer import Consumer, ReadState
from learner.learner import Learner
from tests.learner.small_learner import small_learner
from tests.learner.streams import answer, feedback
from tests.lost_tails import CutTopics
from tests.waiting import eventually
from wire.bus import Bus
from wire.records import Answer, Feedback

pytestmark = pytest.mark.live


def told(number: int) -> Feedback:
    """A label with its text, as labelled history has it: the join finds it again by nothing but its memory."""
    return msgspec.structs.replace(feedback(number), text=f"a text {number}")


class Reader:
    """A learner that remembers few events, and its consumer, which goes on from its checkpoint after each cut."""

    def __init__(self, topics: CutTopics) -> None:
        self.learner: Learner = small_learner(trainable_layers=0, remembered_ids=5)
        self._topics = topics
        self._open()

    def learn(self, num: int) -> None:
        """Reads until so many labels were learnt in all, or are in the holdout, and then whatever is there."""
        eventually(lambda: self._turn() == num and self._consumer.lag() == 0, within_s=60)
        for _ in range(3):
            assert self._turn() == num

    def restart(self) -> None:
        """Goes on from a checkpoint, as another process would."""
        snapshot = self.learner.export(None)
        self.close()
        self.learner = small_learner(trainable_layers=0, remembered_ids=5)
        self.learner.restore(snapshot)
        self._open()

    def send(self, *records: Answer | Feedback) -> None:
        self._bus.publisher().send_all(records, 30)

    def close(self) -> None:
        self._consumer.close()
        self._bus.close()

    @property
    def alarms(self) -> list[str]:
        return self._consumer.alarms()

    def _open(self) -> None:
        learner = self.learner
        self._bus = Bus(self._topics.config, "learner")
        self._consumer = Consumer(
            self._bus,
            ReadState(offsets=learner.offsets, marks=learner.marks, letters=learner.letters, counts=learner.counts),
            levels=lambda: learner.join.levels,
            wait=lambda: None,
            on_truncated=learner.forget_read_first,
        )

    def _turn(self) -> int:
        records = self._consumer.poll(100)
        self.learner.learn_many(records, self._consumer.offsets, self._consumer.marks)
        return self.learner.join.counts["matched"]


def test_a_label_is_learnt_once_whatever_the_broker_has_lost(cut_topics: CutTopics) -> None:
    reader = Reader(cut_topics)
    reader.send(*map(answer, range(10)), *map(feedback, range(10)), *map(told, range(10, 30)))
    reader.learn(30)
    for record in (Answer, Feedback):
        cut_topics.remember(record)
    reader.send(*map(answer, range(30, 40)), *map(feedback, range(30, 40)))
    reader.learn(40)

    cut_topics.cut(Answer, Feedback)  # the learner outlives it
    reader.learn(40)
    reader.send(*map(answer, range(40, 50)), *map(feedback, range(40, 50)))
    reader.learn(50)
    assert reader.learner.counts["log_truncated"] == 2 == len(reader.alarms)

    cut_topics.cut(Answer, Feedback)  # it ends with the broker, and comes back after the logs have grown past it
    reader.restart()
    reader.send(*map(answer, range(60, 90)), *map(feedback, range(60, 90)))
    reader.learn(80)
    assert reader.learner.counts["log_truncated"] == 4 and reader.learner.counts["read_again"] == 0
    assert reader.learner.join.counts["duplicate"] == 0
    reader.close()
