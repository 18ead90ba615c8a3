"""Temperature scaling: calibrates the scores on holdout samples. The temperature is folded into the head's weights.

Ridge logits lie around 0 and 1 whatever the number of classes, so without it every score would be near 1/C. It is one
number, fitted by golden-section search on the mean log-likelihood (Guo et al. 2017, arXiv:1706.04599). The class with
the highest score does not change.

Rejected: Platt scaling per class (holdout samples are few).
"""

from typing import Final

import torch
from torch import Tensor

DEFAULT: Final = 0.05
"""Used until the holdout has enough samples. The best value for CLINC150 lies between 0.04 and 0.06."""

LOWEST: Final = 0.01
HIGHEST: Final = 1.0

MIN_SAMPLES: Final = 50
STEPS: Final = 20
GOLDEN: Final = (5**0.5 - 1) / 2


def fit_temperature(logits_BC: Tensor, rows_B: Tensor) -> float:
    """Returns the maximum-likelihood temperature in [LOWEST, HIGHEST]; DEFAULT for fewer than MIN_SAMPLES samples.

    The likelihood is unimodal in log T, which 20 golden sections narrow to a ten-thousandth of its range.
    """
    if len(rows_B) < MIN_SAMPLES:
        return DEFAULT

    def loss(log_t: Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(logits_BC / log_t.exp(), rows_B))

    low = torch.tensor(LOWEST).log()
    high = torch.tensor(HIGHEST).log()
    for _ in range(STEPS):
        left = high - GOLDEN * (high - low)
        right = low + GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return float(((low + high) / 2).exp())
