"""Bounds how many labels of one source count, so that a flood does not drown the others.

    label --Rates--> over_rate      --Shares--> over_share     what the learner would hold, too
          --Shares of all that count--> beyond_share           more than its share of the evidence

The first two bounds are the learner's own code under its own settings, so a label of a flooding source neither teaches
nor judges. The third is always on: a source that floods gets at most `share` of the labels that count, while others
label; a source that is alone counts in full. Whether a label counts is decided before it is compared with any verdict,
so the labels that count are as accurate as the others of their sources. And what counts decides nothing alone: see
`rollout/tallies.py`.

The flip alarm of the learner is not asked: a candidate that confuses two classes looks like flipped labels, and must be
withdrawn.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from wire.config import TrustConfig
from wire.sources import Rates, Shares

Excess: TypeAlias = Callable[[str, int], str]

WINDOW: Final = 1_000
"""The window, in labels, over which the shares of the sources are computed."""


def limits(trust: TrustConfig, *, share: float) -> Excess:
    """Returns what says, label by label in their order, why one of a source does not count, "" where it does.

    It is asked with the source, and the time of the answer in ms. `share` is that of `rollout.source_share`.
    """
    rates = Rates(per_s=trust.source_labels_per_s, burst=trust.source_burst, max_sources=trust.max_sources)
    learnt = Shares(share=trust.source_share, window=trust.source_window)
    counted = Shares(share=share, window=WINDOW)

    def excess(source: str, answer_ms: int) -> str:
        if not rates.take(source, answer_ms):
            return "over_rate"
        if not learnt.add(source):
            return "over_share"
        return "" if counted.add(source) else "beyond_share"

    return excess
