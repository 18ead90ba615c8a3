"""How certain a version is of texts of its classes, so that replicas can refuse the others (selective prediction).

    logits of the holdout samples --free energy--> quantiles, and the risk of answering what is above each of them

A text of no class of ours has a low free energy, the log of the sum of exp(logit / T) (Liu et al. 2020,
arXiv:2010.03759): every class is unlikely. Below which one a replica refuses is its setting: a share of the texts of
known classes, or the risk that is left. The bound of the risk is that of the relative entropy (Chernoff 1952; Langford
2005, theorem 3.3) at the error of one look among as many as a binary search takes, so that any threshold may be chosen
by it (Geifman and El-Yaniv 2017, arXiv:1705.08500, theorem 3.2).

Measured on CLINC150 (frozen MiniLM, 15,000 training texts; `tests/flow/test_out_of_scope.py`). T was chosen, and the
threshold fitted to answer 95 % in scope, on the validation texts. AUROC of the 4,500 test texts in scope against the
1,000 out of scope, and the share of these that is refused:

    largest probability                       95.8 %   74.0 %     what `score` is
    margin of the best two                    93.6 %   59.8 %
    largest logit                             96.5 %   81.0 %
    free energy                               97.0 %   84.4 %     96.9 and 83.8 % as served, in INT8
    cosine to the nearest class mean          96.6 %   81.4 %
    5th nearest neighbour                     96.1 %   80.0 %     needs all training texts
    Mahalanobis, relative (Ren et al. 2021)   97.4 %   87.6 %     needs two matrices of the width in each version
    logit less twice the leverage             97.6 %   86.6 %     needs the inverse Gram matrix in each version

Rejected: the bound of Clopper and Pearson, which is a little lower (it is a search of its own for each threshold, and
takes longer than everything else that is measured of a version); the last two scores (every version would carry some
megabytes more for a point and a half); and a class of its own for texts of none (it takes labels that nobody gives, and
names only what is like them).

Shapes: N samples, C classes, Q quantiles.
"""

import math
from typing import Final

import torch
from torch import Tensor

from model.head import free_energies
from wire.records import Certainty

TEMPERATURE: Final = 4.0
"""T beside logits that were divided by the temperature of the head (`learner.quality.temperature`)."""

NUM_QUANTILES: Final = 101

MIN_SAMPLES: Final = 50
"""Nothing is said of fewer holdout samples: a hundredth of them would be no sample at all."""

MAX_LOGITS: Final = 1 << 22
"""The most logits that are looked at: with many classes, those of fewer samples."""

NUM_HALVINGS: Final = 30

ERROR: Final = 0.05 / math.ceil(math.log2(NUM_QUANTILES))


def fit_certainty(logits_NC: Tensor, is_right_N: Tensor, is_known_N: Tensor) -> Certainty:
    """Returns the certainty of a version that gives holdout samples these logits; none for few samples.

    Only those of known classes count.
    """
    known_N = is_known_N.nonzero().flatten()[:: logits_NC.numel() // MAX_LOGITS + 1]
    num = len(known_N)
    if num < MIN_SAMPLES:
        return Certainty()
    energies_N, order_N = free_energies(logits_NC[known_N], TEMPERATURE).sort()
    wrong_N = (~is_right_N[known_N][order_N]).double()
    wrong_above_N = wrong_N.flip(0).cumsum(0).flip(0)  # at or above each sample
    places_Q = torch.linspace(0, num - 1, NUM_QUANTILES).round().long()
    risks_Q = risk_bounds(wrong_above_N[places_Q], num - places_Q, ERROR)
    return Certainty(
        temperature=TEMPERATURE,
        quantiles=tuple(round(value, 4) for value in energies_N[places_Q].tolist()),
        risks=tuple(round(value, 4) for value in risks_Q.tolist()),
        samples=num,
    )


def risk_bounds(wrong_Q: Tensor, num_Q: Tensor, error: float) -> Tensor:
    """Returns the upper bound of each share of wrong answers, where `wrong_Q` of `num_Q` were wrong.

    It is the share p at which num times the relative entropy of the one that was found, beside p, is log(1 / error).

    >>> risk_bounds(torch.tensor([0.0, 5.0]), torch.tensor([100, 100]), 0.05).round(decimals=3).tolist()
    [0.03, 0.122]
    """
    found_Q = wrong_Q.double() / num_Q
    most_Q = -math.log(error) / num_Q
    low_Q = found_Q.clone()
    high_Q = torch.ones_like(found_Q)
    for _ in range(NUM_HALVINGS):
        share_Q = (low_Q + high_Q) / 2
        entropy_Q = torch.xlogy(found_Q, found_Q / share_Q) + torch.xlogy(1 - found_Q, (1 - found_Q) / (1 - share_Q))
        is_above_Q = entropy_Q > most_Q
        high_Q = torch.where(is_above_Q, share_Q, high_Q)
        low_Q = torch.where(is_above_Q, low_Q, share_Q)
    return high_Q
