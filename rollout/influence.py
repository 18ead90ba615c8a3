"""Bounds how much the labels of one source count for or against an arm, so that no source decides alone.

    label that meets its answer --Rates--> over_rate      --Shares--> over_share     what the learner would hold, too
                                --Shares of its arm--> beyond_share                  more than its share of the evidence

The first two bounds are the learner's own code under its own settings, so a label of a flooding source neither teaches
nor judges. The third is always on: a source that floods an arm gets at most `share` of the labels that count there,
while others label; a source that is alone counts in full. Whether a label counts is decided before it is compared with
the answer, so the labels that count are as accurate as the others of their sources.

The flip alarm of the learner is not asked: a candidate that confuses two classes looks like flipped labels, and must be
withdrawn.
"""

from typing import Final

from wire.config import TrustConfig
from wire.sources import Rates, Shares

WINDOW: Final = 1_000
"""The window, in labels of an arm, over which the shares of its sources are computed."""


class Influence:
    """Decides label by label, in their order."""

    def __init__(self, trust: TrustConfig, *, share: float) -> None:
        self._rates = Rates(per_s=trust.source_labels_per_s, burst=trust.source_burst, max_sources=trust.max_sources)
        self._shares = Shares(share=trust.source_share, window=trust.source_window)
        self._share = share
        self._arms: dict[str, Shares] = {}

    def excess(self, arm: str, *, source: str, answer_time_ms: int) -> str:
        """Returns why a label of `source` for an answer of `arm` does not count, "" where it does."""
        if not self._rates.take(source, answer_time_ms):
            return "over_rate"
        if not self._shares.take(source):
            return "over_share"
        shares = self._arms.setdefault(arm, Shares(share=self._share, window=WINDOW))
        return "" if shares.take(source) else "beyond_share"
