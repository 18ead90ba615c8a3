"""The temperature of a head of classes, or of sets of them: it makes probabilities of logits.

Ridge logits lie around 0 and 1 whatever the number of classes, so without a temperature every score would be near 1/C.
It is one number, folded into the head's weights, fitted by golden-section search on the mean log-likelihood (Guo et al.
2017, arXiv:1706.04599). The class with the highest score does not change.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from model.kinds import DEFAULT_TEMPERATURE

LOWEST: Final = 0.01
HIGHEST: Final = 1.0

MIN_SAMPLES: Final = 50
"""Nothing is fitted by fewer."""

STEPS: Final = 20
GOLDEN: Final = (5**0.5 - 1) / 2


def fit_temperature(logits_BC: Tensor, loss: Callable[[Tensor], Tensor]) -> float:
    """Returns the temperature in [LOWEST, HIGHEST] at which the `loss` of the logits, divided by it, is the lowest.

    It is DEFAULT_TEMPERATURE for fewer than MIN_SAMPLES samples. The likelihood is unimodal in log T, which 20 golden
    sections narrow to a ten-thousandth of its range.
    """
    if len(logits_BC) < MIN_SAMPLES:
        return DEFAULT_TEMPERATURE
    low = torch.tensor(LOWEST).log()
    high = torch.tensor(HIGHEST).log()
    for _ in range(STEPS):
        left = high - GOLDEN * (high - low)
        right = low + GOLDEN * (high - low)
        if float(loss(logits_BC / left.exp())) <= float(loss(logits_BC / right.exp())):
            high = right
        else:
            low = left
    return float(((low + high) / 2).exp())
