"""A learner of sets or of scores and its publisher, on the texts of `tests.learner.streams`."""

from pathlib import Path

from learner.learner import Learner
from learner.relabelling import follow_settings
from learner.rounds.worker import INLINE
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import Setting, small_learner
from tests.learner.streams import TOPICS, answer
from wire.config import LabelConfig
from wire.receipts import Receipts
from wire.records import Answer, Feedback


def make_feedback(kind: str, number: int) -> Feedback:
    """Two topics, one or none; or a number that hangs on the topic."""
    event_id = f"event-{number}"
    if kind == "score":
        return Feedback(event_id=event_id, value=1.0 + number % 5, time_ms=number)
    names = (TOPICS[number % 5], TOPICS[number % 3])[: 2 - number % 3] if number % 11 else ()
    return Feedback(event_id=event_id, labels=tuple(dict.fromkeys(names)), time_ms=number)


class KindRig(PublishRig):
    """A learner of labels of another kind."""

    labels = LabelConfig(kind="multilabel")

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        learner = small_learner(receipts, INLINE, folder, **changed)
        learner.label_config = self.labels
        follow_settings(learner)
        return learner

    def learn(self, first: int, last: int) -> None:
        found: list[Answer | Feedback] = []
        for number in range(first, last):
            found += [answer(number, label=None), make_feedback(self.labels.kind, number)]
        self.learner.learn_many(found, {"feedback.v1/0": last})


class ScoreRig(KindRig):
    labels = LabelConfig(kind="score", range=(1.0, 5.0))
