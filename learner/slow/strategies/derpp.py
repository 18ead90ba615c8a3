"""DER++: replayed samples are learnt with their labels, and with the outputs that they had before the round."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from learner.slow.strategies.er_ace import mask_absent
from learner.slow.strategies.strategy import Outputs, Strategy


class DarkReplay(Strategy):
    """Dark experience replay with labels (Buzzega et al. 2020, arXiv:2004.07211, equation 6).

        L = L_ce(fresh) + alpha |z' - h(x')|^2 + beta L_ce(y'', f(x''))        x', x'': two independent draws

    The square is the mean over samples and classes, as in the authors' code, for which they report the best alpha and
    beta. `is_asymmetric`: the first term is that of ER-ACE, within the classes of the fresh batch.
    """

    num_draws = 2
    wants_before = True

    def __init__(self, *, alpha: float, beta: float, is_asymmetric: bool = False, loss_q: float = 0.0) -> None:
        super().__init__(loss_q=loss_q)
        self._alpha = alpha
        self._beta = beta
        self._is_asymmetric = is_asymmetric

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        if self._is_asymmetric:
            fresh = fresh._replace(logits_BC=mask_absent(fresh.logits_BC, fresh.labels_B))
        loss = self.class_loss(fresh)
        if draws:
            dark, labelled = draws
            assert dark.before_BC is not None, "there are no outputs from before"
            loss = loss + self._alpha * functional.mse_loss(dark.logits_BC, dark.before_BC)
            loss = loss + self._beta * self.class_loss(labelled)
        return loss
