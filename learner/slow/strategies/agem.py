"""A-GEM: a step on fresh samples that, to first order, does not raise the loss of the replayed ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.slow.strategies.strategy import Outputs, Strategy


class AveragedGradient(Strategy):
    """The gradient of the fresh samples, projected (Chaudhry et al. 2019, arXiv:1812.00420, equation 11)."""

    num_draws = 1

    def backward(self, parameters: Sequence[Tensor], fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        loss = self.class_loss(fresh)
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)  # one forward pass serves all
        for replayed in draws:
            reference = torch.autograd.grad(self.class_loss(replayed), parameters, retain_graph=True)
            gradients = project(gradients, reference)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss.detach()


def project(gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Projects g on the half-space g.r >= 0: g - (g.r / r.r) r where g.r < 0, else g.

    >>> project([torch.tensor([1.0, -2.0])], [torch.tensor([0.0, 1.0])])
    (tensor([1., 0.]),)
    """
    dot_product = sum((g * r).sum() for g, r in zip(gradients, reference, strict=True))
    if dot_product >= 0:
        return tuple(gradients)
    share = dot_product / sum((r * r).sum() for r in reference)
    return tuple(g - share * r for g, r in zip(gradients, reference, strict=True))
