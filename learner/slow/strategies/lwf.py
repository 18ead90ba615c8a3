"""Learning without forgetting (LwF): fresh samples keep the outputs that they had before the stage. No memory."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from learner.slow.strategies.strategy import Outputs, Strategy

TEMPERATURE = 2.0
"""Distillation temperature T of Li and Hoiem."""


class Distillation(Strategy):
    """Cross-entropy and knowledge distillation at temperature T (Li and Hoiem 2016, arXiv:1606.09282, equation 3).

    The divergence is scaled by T^2, so that its gradient does not depend on T (Hinton et al. 2015, arXiv:1503.02531).
    """

    wants_before = True

    def __init__(self, *, alpha: float, loss_q: float = 0.0) -> None:
        super().__init__(loss_q=loss_q)
        self._alpha = alpha

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        loss = self.class_loss(fresh)
        if fresh.before_BC is None:
            return loss
        now_BC = functional.log_softmax(fresh.logits_BC / TEMPERATURE, dim=1)
        before_BC = functional.log_softmax(fresh.before_BC / TEMPERATURE, dim=1)
        divergence = functional.kl_div(now_BC, before_BC, reduction="batchmean", log_target=True)
        return loss + self._alpha * TEMPERATURE**2 * divergence
