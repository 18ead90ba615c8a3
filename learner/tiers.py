"""Tiers: a slow round trains the deeper, the further the texts of the stream have moved away from the known ones.

    distances of learnt texts --ADWIN: a rise--> effect size --tier_for--> task | domain | base --> layers of the round

    tier     what it trains                         when
    task     `learner.trainable_layers` top blocks  always
    domain   `learner.domain_layers`                a rise by DOMAIN_EFFECT or more
    base     `learner.base_layers`                  a rise by BASE_EFFECT or more

A drift unfreezes its tier at once. Each round on labels that begins then freezes one tier again: after a drift to the
base tier one round trains that, the next the domain tier, and those after it the task tier. So a shift is trained on
twice, first on few labels soon after it and then on more, and no tier stays unfrozen in a stream that is as it was. The
next rehearsal, which has the most steps and takes time from nobody, trains the deepest tier that was unfrozen since the
rehearsal before. A round on pseudo-labels trains the task tier: what it learns from may be wrong.

Which blocks a shift needs: those near its cause (Lee et al. 2023, "Surgical Fine-Tuning", arXiv 2210.11466). Other
classes, or other labels for the same texts, are a change at the output, for which the top is enough. Other texts are a
change at the input. So only the distances choose the tier, and errors hurry a round without making it deeper. The order
is that of gradual unfreezing (Howard and Ruder 2018, ULMFiT, section 3.3). The effect size (Cohen's d: the rise in
standard deviations of the distances) has no unit, so the bounds hold for every encoder, and it grows with the share of
texts that come from elsewhere as with how far away that is. Measured with MiniLM after 1,500 texts of 75 classes of
CLINC150, at ADWIN's first detection within 300 to 700 more texts; with the encoder as it comes, and as rounds have
trained it, after which known texts lie closer to their means:

                                          as it comes   trained
    the same classes                      no drift      no drift
    all 150 classes                       no drift      1.2
    the other 75 classes                  0.9           1.6
    SNIPS (commands to other assistants)  1.3           1.6
    SST-2 (film reviews)                  2.3           3.3
    TREC (questions of fact)              2.5           3.2
    TREC as 29 % of the same classes      0.5           no drift

Rejected: the rise of the error rate (a stage of new classes makes every answer wrong, and the encoder that knew none of
them is nonetheless the right one), a tier that stays until errors are back (they may never be: the stream is harder),
thresholds as settings (what an operator decides is which blocks, and so what a round may cost), and a third of the
learning rate for the blocks below the task tier (on the data of row E4, one seed: 94.4 % in place of 94.6 % with three
blocks, 94.4 % in place of 94.7 % with four, 94.4 % in place of 94.3 % with all six).
"""

from collections.abc import Sequence
from typing import Final

from wire.records import TIERS

DOMAIN_EFFECT: Final = 1.5
BASE_EFFECT: Final = 2.5


def tier_for(effect: float) -> int:
    """Returns the place in TIERS of the tier that a rise of this effect size unfreezes.

    >>> [TIERS[tier_for(effect)] for effect in (0.5, 1.8, 2.5)]
    ['task', 'domain', 'base']
    """
    return (effect >= DOMAIN_EFFECT) + (effect >= BASE_EFFECT)


def unfreeze(tier: int, effect: float) -> int:
    """Returns the tier of the next round after a rise of this effect size, where it was `tier` before."""
    return max(tier, tier_for(effect))


def freeze(tier: int) -> int:
    """Returns the tier of the next round after one of `tier` has begun."""
    return max(tier - 1, 0)


def tier_of(layers: int, layers_by_tier: Sequence[int]) -> str:
    """Returns the name of the first tier that trains so many blocks.

    >>> tier_of(2, (2, 2, 4)), tier_of(4, (2, 2, 4))
    ('task', 'base')
    """
    return next(name for name, most in zip(TIERS, layers_by_tier, strict=True) if layers <= most)
