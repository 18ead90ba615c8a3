"""ER-ACE: fresh samples compete with the classes of their batch only, so they do not push older classes away."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from learner.slow.strategies.strategy import Outputs, Strategy

LEAST: Final = -1e4
"""The logit of an absent class where labels are shares: 0 times -inf is no number."""


class AsymmetricReplay(Strategy):
    """Asymmetric cross-entropy (Caccia et al. 2022, arXiv:2104.05025, equation 4).

    L = L_ce(fresh, classes of the fresh batch) + L_ce(replayed, all classes)
    """

    num_draws = 1

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        own = Outputs(mask_absent(fresh.logits_BC, fresh.labels_B), fresh.labels_B)
        return sum((self.class_loss(replayed) for replayed in draws), start=self.class_loss(own))


def mask_absent(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Returns the logits, with -inf for every class that is not among the labels."""
    if labels_B.is_floating_point():
        return logits_BC.masked_fill(~labels_B.any(dim=0), LEAST)
    is_absent_C = torch.ones(logits_BC.shape[1], dtype=torch.bool).index_fill_(0, labels_B, value=False)
    return logits_BC.masked_fill(is_absent_C, -torch.inf)
