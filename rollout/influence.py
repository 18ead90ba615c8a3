"""Which labels count for or against an arm, beside those that are not believed at all: nobody's alone decide.

    label that meets its answer --Rates--> over_rate      --Shares--> over_share     what the learner would hold, too
                                --Shares of its arm--> beyond_share                  more than its share of the evidence

The first two are the learner's own code under its own settings, so a label that a flooding source says teaches nothing
and judges nobody. The third is always on: a source that floods an arm gets at most `share` of the labels that count
there, while others label; alone it counts in full. Whether a label counts is decided before it is compared with the
answer, so the labels that count are as right as the others of their sources.

The flip alarm of the learner is not asked: a candidate that confuses two classes looks like it, and must be withdrawn.
"""

from typing import Final

from wire.config import TrustConfig
from wire.sources import Rates, Shares

WINDOW: Final = 1_000
"""Labels of an arm over which the shares of its sources are taken."""


class Influence:
    """Decides on labels, one after the other."""

    def __init__(self, guard: TrustConfig, *, share: float) -> None:
        self._rates = Rates(per_s=guard.source_labels_per_s, burst=guard.source_burst, max_sources=guard.max_sources)
        self._shares = Shares(share=guard.source_share, window=guard.source_window)
        self._share = share
        self._arms: dict[str, Shares] = {}

    def excess(self, arm: str, *, source: str, answer_time_ms: int) -> str:
        """Why a label of `source` for an answer of `arm` does not count, "" where it does."""
        if not self._rates.take(source, answer_time_ms):
            return "over_rate"
        if not self._shares.take(source):
            return "over_share"
        shares = self._arms.setdefault(arm, Shares(share=self._share, window=WINDOW))
        return "" if shares.take(source) else "beyond_share"
