"""What labels mean now, for the join: labels and answers under older names are translated, and some labels are refused.

    label --LabelSet--> its class, or a reason to refuse it          answered name --LabelSet--> its class

Labels and answers wait under the names that they came with, and are translated when they meet. So a change of the set
need not touch what waits, and a label under an old name that comes late means what the name means by then.

Rejected: translating records when they are read (what waits in a checkpoint would keep the names of then).
"""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from learner.labels.sample import HoldoutDraw, Sample, Waiting, make_quarantined, make_sample
from wire.events import AMBIGUOUS
from wire.label_set import LabelSet
from wire.receipts import FORGED
from wire.records import Feedback, Quarantined

KEY_MISSING: Final = "the label has no `key`: send the key of the answer with its receipt, which is good for that alone"
"""What to do where a good receipt may have been sent without its key, and its answer does not wait."""

SOURCE_MISSING: Final = "the label replaces none without the source of its event: map bus.map.feedback.event_source"
"""What to do where a desk corrects the label of an event that has a source."""


class KnownNames(Protocol):
    """Names that something is known of."""

    def __contains__(self, label: str, /) -> bool: ...


class KnownLabels(Protocol):
    """What is known of labels: the set of them, and the classes that have a row."""

    @property
    def labels(self) -> LabelSet: ...
    @property
    def classes(self) -> KnownNames: ...


class LabelNames:
    """`known` returns what is known now, and `is_in_holdout` draws the events that are never learnt."""

    def __init__(self, known: Callable[[], KnownLabels], is_in_holdout: HoldoutDraw) -> None:
        self._known = known
        self.is_in_holdout = is_in_holdout

    def draw_holdout_by(self, secret: bytes) -> None:
        """Draws the holdout from now on as nobody can predict who has not this secret."""
        self.is_in_holdout = HoldoutDraw(self.is_in_holdout.share, secret)

    def refusal(self, feedback: Feedback) -> str:
        """Returns why a label is not learnt under the set as it is now; "" where it is."""
        known = self._known()
        return known.labels.refusal(feedback.target, known.classes.__contains__)

    def sample(self, answer: Waiting, feedback: Feedback) -> Sample:
        """Returns the sample of an answer and its label, both by the names of now."""
        known = self._known()
        sample = make_sample(answer, feedback, self.is_in_holdout)
        name_of = known.labels.name_of
        predicted = None if sample.predicted_label is None else name_of(sample.predicted_label)
        return msgspec.structs.replace(sample, label=name_of(sample.label), predicted_label=predicted)

    def quarantined(self, reason: str, feedback: Feedback, answer: Waiting | None = None) -> Quarantined:
        """Returns the record of a label that is refused or held; with the fix, where it is not in the set, or may lack
        the key of its answer: a receipt is of one entity, and looks forged without its key."""
        record = make_quarantined(reason, feedback, answer)
        if reason == FORGED and feedback.receipt and not feedback.key:
            return msgspec.structs.replace(record, detail=KEY_MISSING)
        if reason == AMBIGUOUS and feedback.replaces and feedback.event_source is None:
            return msgspec.structs.replace(record, detail=SOURCE_MISSING)
        is_ours = reason == self.refusal(feedback)
        detail = self._known().labels.why(reason, feedback.target) if is_ours else ""
        return msgspec.structs.replace(record, detail=detail)
