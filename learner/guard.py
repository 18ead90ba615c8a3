"""What a label must pass before it is learnt: it may have been said by anybody.

    Feedback --refusal--> blank, too_long, forged, expired, missing     by itself; the same at every replay
    Sample   --hold-----> over_rate, over_share                         beside what was said before

Whatever is refused or held is counted by its reason and goes to the quarantine topic. A label that is held leaves its
event unlabelled: another source may still say what it is. One that an operator vouches for is held by nothing.
"""

import msgspec

from learner.config import GuardConfig
from learner.join import Sample
from learner.sources import Rates, Shares, SourcesState
from wire.receipts import Receipts
from wire.records import Feedback


class GuardState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `Guard` knows."""

    sources: SourcesState


class Guard:
    """Decides on labels, one after the other. Without `receipts` (no key: a measurement) nobody's are looked at."""

    def __init__(
        self,
        config: GuardConfig,
        *,
        max_label_chars: int,
        receipts: Receipts | None = None,
        state: GuardState | None = None,
    ) -> None:
        self._config, self._max_label_chars, self._receipts = config, max_label_chars, receipts
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

    def refusal(self, feedback: Feedback) -> str:
        """Why the label is refused, whatever it is the label of; "" where it is not."""
        if not feedback.label.strip():
            return "blank"
        if len(feedback.label) > self._max_label_chars:
            return "too_long"
        if self._receipts is None:
            return ""
        return self._receipts.refusal(
            feedback,
            is_required=self._config.require_receipts,
            max_age_ms=1e3 * self._config.receipt_max_age_s,
        )

    def hold(self, sample: Sample) -> str:
        """Why the sample is held, "" where it is not; from then on it counts as said."""
        if sample.is_approved:
            return ""
        if not self._rates.take(sample.source, sample.answer_time_ms):
            return "over_rate"
        return "" if self._shares.take(sample.source) else "over_share"

    def export(self) -> GuardState:
        return GuardState(sources=SourcesState(buckets=self._rates.export(), recent=self._shares.export()))
