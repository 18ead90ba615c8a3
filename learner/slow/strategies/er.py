"""Experience replay (ER): fresh and replayed samples are learnt alike."""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.slow.strategies.strategy import Outputs, Strategy


class ExperienceReplay(Strategy):
    """The mean loss of all samples of the step (Ratcliff 1990; Chaudhry et al. 2019, arXiv:1902.10486, algorithm 1)."""

    num_draws = 1

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        parts = (fresh, *draws)
        logits_BC = torch.cat([part.logits_BC for part in parts])
        labels_B = torch.cat([part.labels_B for part in parts])
        return self.class_loss(Outputs(logits_BC, labels_B))
