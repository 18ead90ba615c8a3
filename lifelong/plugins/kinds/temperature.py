"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599) of the logits of a head for classes or sets of classes.

Ridge logits are near 0 and 1 for any number of classes, so without a temperature every score would be near 1/C. The
temperature is one number, folded into the head's weights. It maximises the mean log-likelihood and is found by
golden-section search. The class with the highest score does not change.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from model.kinds import DEFAULT_TEMPERATURE

LOWEST: Final = 0.01
HIGHEST: Final = 1.0

MIN_SAMPLES: Final = 50
"""The minimum number of samples for a fit."""

STEPS: Final = 20
GOLDEN: Final = (5**0.5 - 1) / 2


def fit_temperature(logits_BC: Tensor, loss: Callable[[Tensor], Tensor]) -> float:
    """Returns the temperature T in [LOWEST, HIGHEST] that minimises `loss(logits_BC / T)`.

    Returns DEFAULT_TEMPERATURE for fewer than MIN_SAMPLES samples. The likelihood is unimodal in log T, and 20
    golden-section steps narrow log T to a ten-thousandth of its range.
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
