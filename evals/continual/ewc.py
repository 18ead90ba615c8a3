"""Implements online EWC: a penalty holds the parameters that mattered for earlier stages. It stores no samples."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from learner.slow.strategies.strategy import Outputs, Strategy


class ElasticWeights(Strategy):
    """Adds a penalty weighted by a running Fisher information (Schwarz et al. 2018, arXiv:1805.06370, equation 9).

        L = L_ce + strength / 2 * sum_i F_i (theta_i - theta*_i)^2        F <- decay F + mean of squared gradients

    Kirkpatrick et al. 2017 (arXiv:1612.00796) keep an F for each stage; one sum takes no more memory as stages come.
    """

    def __init__(self, *, strength: float, decay: float, loss_q: float = 0.0) -> None:
        super().__init__(loss_q=loss_q)
        self._strength = strength
        self._decay = decay
        self._anchors: list[Tensor] = []
        self._fishers: list[Tensor] = []

    def backward(self, parameters: Sequence[Tensor], fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        loss = self.class_loss(fresh)
        for parameter, anchor, fisher in zip(parameters, self._anchors, self._fishers, strict=False):
            loss = loss + self._strength / 2 * (fisher * (parameter - anchor).square()).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def end_stage(self, parameters: Sequence[Tensor], losses: Iterable[Tensor]) -> None:
        squares = [torch.zeros_like(parameter) for parameter in parameters]
        num_samples = 0
        for loss in losses:
            num_samples += 1
            for square, gradient in zip(squares, torch.autograd.grad(loss, parameters), strict=True):
                square += gradient.square()
        before = self._fishers or [torch.zeros_like(parameter) for parameter in parameters]
        self._fishers = [self._decay * f + s / max(num_samples, 1) for f, s in zip(before, squares, strict=True)]
        self._anchors = [parameter.detach().clone() for parameter in parameters]
