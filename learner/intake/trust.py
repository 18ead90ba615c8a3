"""Decides before a label is learnt whether it is trusted, since anybody may have sent it.

    Feedback --refusal--> blank, too_long, forged, expired, missing     depends on the label alone, so a replay of the
                                                                        topic gives the same result
    Sample   --hold-----> unreadable, over_rate, over_share, flip       depends on the labels before it
    Sample that contradicts its answer, not held --> Suspects --its event raised an alarm--> withdrawn

A label that is refused or held is counted by its reason and sent to the quarantine topic. If a label is held, its event
stays unlabelled, so another source may still label it. A label that an operator has approved is never held. If labels
raise a flip alarm, they were trusted until then. They are withdrawn when the alarm begins, as if they had been held.

`learner.intake.flips` knows only the hashes of the events that raised an alarm. `Suspects` has the samples, for the
quarantine and for `learner.unlearning`. It drops the oldest first, because an alarm is raised within some hundred
labels after a flip has begun. A dropped sample cannot be withdrawn, and stays learnt.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Final

import msgspec
import structlog

from learner.config import LearnerConfig
from learner.intake.flips import FlipDetector, FlipsState
from learner.samples import Sample
from wire.kinds import find_kind
from wire.label_set import find_refusal
from wire.rate_limits import MAX_NAME_CHARS, Rates, Shares, SourcesState
from wire.receipts import Receipts
from wire.records import Answer, Feedback

MAX_SUSPECTS: Final = 4_096
MAX_BYTES: Final = 4 << 20
"""The most bytes of text in `Suspects`."""


class Suspects:
    """Learnt samples that contradict the served answers. They are withdrawn if a flip alarm blames their events."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._samples = OrderedDict[int, Sample]()
        self._num_bytes = 0
        for sample in samples:
            self.add(sample)

    def add(self, sample: Sample) -> None:
        """Adds a sample; drops the oldest samples beyond MAX_SUSPECTS and MAX_BYTES."""
        self.take([sample.event])
        self._samples[sample.event] = sample
        self._num_bytes += _num_bytes(sample)
        while len(self._samples) > MAX_SUSPECTS or self._num_bytes > MAX_BYTES:
            _, oldest = self._samples.popitem(last=False)
            self._num_bytes -= _num_bytes(oldest)

    def take(self, events: Collection[int]) -> list[Sample]:
        """Removes and returns the samples of these events, oldest first."""
        if self._samples.keys().isdisjoint(events):
            return []
        taken = [sample for event, sample in self._samples.items() if event in events]
        for sample in taken:
            del self._samples[sample.event]
            self._num_bytes -= _num_bytes(sample)
        return taken

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Removes the samples about erased subjects; returns their number."""
        events = {event for event, sample in self._samples.items() if is_erased(sample.subject)}
        return len(self.take(events))

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Renames the classes; the samples of a class that is renamed to "" are dropped."""
        for sample in self.take(set(self._samples)):
            if name := name_of(sample.label):
                self.add(msgspec.structs.replace(sample, label=name))

    def export(self) -> list[Sample]:
        return list(self._samples.values())


def _num_bytes(sample: Sample) -> int:
    return len(sample.text.encode())


log = structlog.get_logger("learner")


class TrustState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `LabelTrust`."""

    sources: SourcesState
    flips: FlipsState
    suspects: list[Sample] = []


class LabelTrust:
    """Checks labels, one after the other, before they are learnt.

    - `receipts`: checks signatures. A benchmark has no key, and then signatures are not checked.
    - `reads`: whether the encoder can read the content of an event.
    """

    def __init__(
        self,
        learner: LearnerConfig,
        *,
        receipts: Receipts | None = None,
        state: TrustState | None = None,
        reads: Callable[[str], bool] = lambda text: True,
    ) -> None:
        self._learner = learner
        self._reads = reads
        config = learner.trust
        self._config = config
        self.receipts = receipts
        self.refusal: Callable[[Feedback], str] = partial(
            find_refusal,
            receipts=receipts,
            max_chars=learner.max_label_chars,
            is_required=config.require_receipts,
            max_age_ms=1e3 * config.receipt_max_age_s,
        )
        """Returns why a label is refused, independently of its event; "" if it is not refused."""
        self._rates = Rates(
            per_s=config.source_labels_per_s,
            burst=config.source_burst,
            max_sources=config.max_sources,
            buckets=state.sources.buckets if state else None,
        )
        self._shares = Shares(
            share=config.source_share,
            window=config.source_window,
            recent=state.sources.recent if state else None,
        )
        self.flips = FlipDetector(state.flips if state else None, num_sources=config.change_sources)
        self._suspects = Suspects(state.suspects if state else ())
        self._withdrawn: list[Sample] = []

    def takes_text(self, feedback: Feedback) -> bool:
        """Returns whether a label contains the text of its event, and this text is trusted.

        A receipt proves which answer was given, but not the text in the label. So if receipts are required, an operator
        must have approved the label, or the answer finder must have added the text.
        """
        if not feedback.text.strip() and not feedback.features and not feedback.parts:
            return False
        is_required = self.receipts is not None and self._config.require_receipts
        return not is_required or bool(feedback.approval) or self.has_answer(feedback)

    def has_answer(self, feedback: Feedback) -> bool:
        """Returns whether the answer finder has added the text and the predicted label of the answer to this label."""
        return self.receipts is not None and self.receipts.has_answer(feedback)

    def with_answer(self, feedback: Feedback, answer: Answer) -> Feedback:
        """Returns the label with the text of its answer, signed."""
        if self.receipts is None:
            raise ValueError("a label cannot be signed without a key")
        return self.receipts.with_answer(feedback, answer)

    def may_correct(self, feedback: Feedback) -> bool:
        """Returns whether the label may replace an earlier one of its event: it is from a mapped topic, or approved."""
        return feedback.replaces or (self.receipts is not None and bool(feedback.approval))

    def hold(self, sample: Sample) -> str:
        """Returns why the sample is held back; "" if it may be learnt. Each check counts the samples that it sees."""
        # A correction is about a text that was read before. The sample that it replaces need not be withdrawn any more.
        if sample.is_correction:
            self._suspects.take([sample.event])
        elif not self._reads(sample.text):
            return "unreadable"
        if sample.is_approved and self.receipts is not None:
            return ""
        if not self._rates.take(sample.source, sample.answer_time_ms):
            return "over_rate"
        if not self._shares.add(sample.source):
            return "over_share"
        return "flip" if self._config.flip_alarm and self._is_flip(sample) else ""

    def take_withdrawn(self) -> list[Sample]:
        """Returns the learnt samples that turned out to be part of a flip since the last call."""
        samples, self._withdrawn = self._withdrawn, []
        return samples

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Removes the samples about erased subjects; returns their number."""
        return self._suspects.erase(is_erased)

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Renames the classes in the charts and the suspects; a class that is renamed to "" is dropped."""
        self.flips.rename(name_of)
        self._suspects.rename(name_of)

    def restored(self, state: TrustState | None) -> "LabelTrust":
        """Returns a `LabelTrust` with the same settings and the state of a checkpoint."""
        return LabelTrust(self._learner, receipts=self.receipts, state=state, reads=self._reads)

    def export(self) -> TrustState:
        return TrustState(
            sources=SourcesState(buckets=self._rates.export(), recent=self._shares.export()),
            flips=self.flips.export(),
            suspects=self._suspects.export(),
        )

    def _is_flip(self, sample: Sample) -> bool:
        """Returns whether the label is part of a flip. Blamed labels from before are withdrawn."""
        predicted = sample.predicted_label
        num_raised = self.flips.num_raised
        # Without a prediction there is no contradiction. Only single classes can be given in place of one another.
        if predicted is None or not find_kind(sample.label).is_exclusive:
            return False
        source = sample.source[:MAX_NAME_CHARS]
        is_part = self.flips.add(source, predicted=predicted, label=sample.label, event=sample.event)
        withdrawn = self._suspects.take(self.flips.take_blamed())
        self._withdrawn += withdrawn
        if withdrawn or self.flips.num_raised > num_raised:
            log.warning("flip_alarm", predicted=predicted, label=sample.label, source=source, withdrawn=len(withdrawn))
        if predicted != sample.label and not is_part:
            self._suspects.add(sample)
        return is_part
