"""Decides whether a label is trusted before it is learnt, since anybody may have sent it.

    Feedback --refusal--> blank, too_long, forged, expired, missing     depends on the label alone; same at every replay
    Sample   --hold-----> unreadable, over_rate, over_share, flip       depends on the labels before it
    Sample that contradicts its answer, not held --> Suspects --take, the events that raised an alarm--> withdrawn

A label that is refused or held is counted by its reason and sent to the quarantine topic. A held label leaves its event
unlabelled, so another source may still label it. A label that an operator approves is never held. Labels that were
trusted until they raised a flip alarm are withdrawn when it begins, as if they had been held.

`learner.intake.flips` knows only the hashes of the events that raised an alarm. `Suspects` keeps the samples
themselves, for the quarantine and for `learner.unlearning`. The oldest are dropped first, because an alarm is raised
within some hundred labels of a flip's beginning. A sample that was dropped stays learnt.
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
from wire.kinds import kind_of
from wire.label_set import refusal_of
from wire.rate_limits import MAX_NAME_CHARS, Rates, Shares, SourcesState
from wire.receipts import Receipts
from wire.records import Answer, Feedback

MAX_SUSPECTS: Final = 4_096
MAX_BYTES: Final = 4 << 20
"""The most bytes of text in `Suspects`."""


class Suspects:
    """Samples by the hash of their event, oldest first."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._samples = OrderedDict[int, Sample]()
        self._num_bytes = 0
        for sample in samples:
            self.add(sample)

    def add(self, sample: Sample) -> None:
        """Adds a sample; drops the oldest ones. The bounds hold afterwards."""
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
    """Checks labels one after the other. Without `receipts` (a benchmark has no key) signatures are not checked.

    `reads` says whether the content of an event can be read.
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
            refusal_of,
            receipts=receipts,
            max_chars=learner.max_label_chars,
            is_required=config.require_receipts,
            max_age_ms=1e3 * config.receipt_max_age_s,
        )
        """Returns why a label is refused, independent of its event; "" if it is not."""
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
        """Whether the text that a label carries is trusted.

        A receipt proves the answer, but not this text. So if receipts are required, an operator must have approved the
        label, or the answer finder must have added the text.
        """
        if not feedback.text.strip() and not feedback.features and not feedback.parts:
            return False
        is_required = self.receipts is not None and self._config.require_receipts
        return not is_required or bool(feedback.approval) or self.has_answer(feedback)

    def has_answer(self, feedback: Feedback) -> bool:
        """Whether the answer finder has added the text and the label of the answer."""
        return self.receipts is not None and self.receipts.has_answer(feedback)

    def with_answer(self, feedback: Feedback, answer: Answer) -> Feedback:
        """Returns the label with the text of its answer, signed."""
        if self.receipts is None:
            raise ValueError("nothing can be proved without a key")
        return self.receipts.with_answer(feedback, answer)

    def may_correct(self, feedback: Feedback) -> bool:
        """Whether the label may replace an earlier one of its event: it is from a mapped topic, or approved."""
        return feedback.replaces or (self.receipts is not None and bool(feedback.approval))

    def hold(self, sample: Sample) -> str:
        """Returns why the sample is held, "" if it is not. Each check counts the samples that reach it."""
        # A correction has the text of the sample that it replaces. The replaced sample need not be withdrawn any more.
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
        """Returns the learnt samples that, since the last call, turned out to be part of a flip."""
        samples, self._withdrawn = self._withdrawn, []
        return samples

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Removes the samples about erased subjects; returns their number."""
        return self._suspects.erase(is_erased)

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Renames the classes; a class that is renamed to "" is forgotten."""
        self.flips.rename(name_of)
        self._suspects.rename(name_of)

    def restored(self, state: TrustState | None) -> "LabelTrust":
        """Returns a copy with the same settings and this state."""
        return LabelTrust(self._learner, receipts=self.receipts, state=state, reads=self._reads)

    def export(self) -> TrustState:
        return TrustState(
            sources=SourcesState(buckets=self._rates.export(), recent=self._shares.export()),
            flips=self.flips.export(),
            suspects=self._suspects.export(),
        )

    def _is_flip(self, sample: Sample) -> bool:
        """Whether the label is part of a flip. An answer without a label contradicts nothing."""
        predicted = sample.predicted_label
        num_raised = self.flips.num_raised
        # Only labels of one class can be given in place of another.
        if predicted is None or not kind_of(sample.label).is_exclusive:
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
