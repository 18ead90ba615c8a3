"""Temperature scaling: calibrates the scores on holdout samples. The temperature is folded into the head's weights.

    outputs of the holdout, their sets --fit_threshold--> threshold --fit_temperature--> T     p = sigmoid((o - t) / T)

Ridge logits lie around 0 and 1 whatever the number of classes, so without it every score would be near 1/C. It is one
number, fitted by golden-section search on the mean log-likelihood (Guo et al. 2017, arXiv:1706.04599). The class with
the highest score does not change.

Where labels are sets, a class is named whose output is above one threshold, that of the highest micro-F1 on the holdout
(Yang 2001 calls it SCut, with one for all classes), and the temperature is that of the binary likelihood.

Rejected: Platt scaling per class, and a threshold per class (holdout samples are few).
"""

from typing import Final

import torch
from torch import Tensor

from learner.memory.targets import Targets
from learner.quality.evaluation import DEFAULT_TEMPERATURE

LOWEST: Final = 0.01
HIGHEST: Final = 1.0

DEFAULT_THRESHOLD: Final = 0.5
"""Used until the holdout has enough samples, where labels are sets: the outputs are fitted to 0 and 1."""

MIN_SAMPLES: Final = 50
STEPS: Final = 20
GOLDEN: Final = (5**0.5 - 1) / 2


def fit_threshold(outputs_BC: Tensor, has_BC: Tensor) -> float:
    """Returns the threshold of the highest micro-F1, 2 TP / (named + labelled), in the middle between two outputs.

    DEFAULT_THRESHOLD for fewer than MIN_SAMPLES samples, or where none has a class.

    >>> fit_threshold(torch.tensor([[0.9, 0.2]] * 50), torch.tensor([[True, False]] * 50))
    0.55
    """
    if len(outputs_BC) < MIN_SAMPLES or not has_BC.any():
        return DEFAULT_THRESHOLD
    outputs_M, order_M = outputs_BC.flatten().sort(descending=True)
    num_right_M = has_BC.flatten()[order_M].cumsum(dim=0)
    num_named_M = torch.arange(1, len(outputs_M) + 1)
    f1_M = 2 * num_right_M / (num_named_M + num_right_M[-1])
    f1_M[:-1][outputs_M[:-1] == outputs_M[1:]] = -1.0  # equal outputs are named together
    last = int(f1_M.argmax())
    below = outputs_M[min(last + 1, len(outputs_M) - 1)]
    return round(float(outputs_M[last] + below) / 2, 6)


def fit_temperature(logits_BC: Tensor, targets: Targets) -> float:
    """Returns the maximum-likelihood temperature in [LOWEST, HIGHEST].

    It is DEFAULT_TEMPERATURE for fewer than MIN_SAMPLES samples. The likelihood is unimodal in log T, which 20 golden
    sections narrow to a ten-thousandth of its range.
    """
    if len(logits_BC) < MIN_SAMPLES:
        return DEFAULT_TEMPERATURE

    def loss(log_t: Tensor) -> float:
        if targets.sets is None:
            return float(torch.nn.functional.cross_entropy(logits_BC / log_t.exp(), targets.rows_N))
        has_BC = targets.sets.has_NC.float()
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits_BC / log_t.exp(), has_BC))

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
