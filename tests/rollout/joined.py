"""Answers, labels, and a join that counts what it judged."""

import msgspec

from rollout.judged_events import JudgedEvents, JudgedLabel
from rollout.label_join import LabelJoin, SourceQuota
from wire.kinds import name_hash
from wire.receipts import Receipts, Verdicts
from wire.records import STABLE, Answer, Feedback

RECEIPTS = Receipts(b"a key for tests")


def answer(
    event_id: str,
    label: str | None = "yes",
    *,
    labels: tuple[str, ...] | None = None,
    arm: str = STABLE,
    version: int = 1,
    revision: int = 1,
    source: str = "",
    time_ms: int = 0,
) -> Answer:
    """Returns an answer whose receipt has the verdict of its own version alone."""
    given = Answer(
        event_id=event_id,
        text="text",
        label=label if labels is None else None,
        labels=labels,
        score=0.9,
        weights_version=version,
        arm=arm,
        precision="int8",
        rollout_revision=revision,
        source=source,
        time_ms=time_ms,
    )
    named = name_hash(label) if labels is None else tuple(map(name_hash, labels))
    return with_receipt(given, Verdicts(arm, version, ((version, named),)))


def with_receipt(given: Answer, verdicts: Verdicts) -> Answer:
    receipt = RECEIPTS.of(given.event_id, time_ms=given.time_ms, entity=given.entity, verdicts=verdicts)
    return msgspec.structs.replace(given, receipt=receipt)


def feedback(
    event_id: str, label: str = "yes", *, event_source: str | None = None, key: str = "", receipt: str = ""
) -> Feedback:
    return Feedback(event_id=event_id, label=label, event_source=event_source, key=key, receipt=receipt)


class Judged(LabelJoin):
    """A join that counts, by version, how many labels were judged and how many of them its answers had right."""

    def num_judged(self, version: int = 1) -> tuple[int, int]:
        labels = [label for label in self.found if label.verdicts.version == version]
        return len(labels), sum(label.correctness()[version] for label in labels)

    def __init__(
        self, max_unlabelled: int = 10, *, seed: int = 0, quota_refusal: SourceQuota = lambda source, answer_ms: ""
    ) -> None:
        super().__init__(max_unlabelled, JudgedEvents(3 * max_unlabelled, seed=seed), quota_refusal)
        self.found: list[JudgedLabel] = []

    def add(self, record: Answer | Feedback) -> None:
        label = self.add_answer(record) if isinstance(record, Answer) else self.add_label(record)
        if label is not None:
            self.found.append(label)
