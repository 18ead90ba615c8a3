"""What a strategy of continual learning is: how the gradient of one step comes about.

    outputs of fresh samples, outputs of replayed ones --loss--> gradient in the parameters --> the caller's optimizer

A strategy sees outputs and parameters, never samples or networks. So the same few lines train the top blocks of the
encoder in a slow round and a small network on tensors in the evaluations. The caller makes one forward pass over
everything, hands the parts to `backward` and takes the optimizer's step.

Rejected: hooks around a training loop (Avalanche's plugins), which have to know the loop that they change. Those who
want one name it: `learner.slow.avalanche` runs it.

Shape suffixes: B samples, C classes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Outputs(NamedTuple):
    """The outputs of some samples: logits_BC with their gradient, labels_B, and the logits from before.

    labels_B has the rows of the classes, or, where samples have sets of them, the share of each class, float [B, C].

    before_BC: for replayed samples, the logits when they were stored; for fresh ones, the logits under the weights at
    the end of the last stage. None unless the strategy asks (`wants_before`), and for fresh samples of the first stage.
    """

    logits_BC: Tensor
    labels_B: Tensor
    before_BC: Tensor | None = None


class Strategy:
    """Learns the fresh samples and nothing else. The other strategies override `loss`, or more.

    `num_draws`: the number of independent draws from the replay memory that each step gets, none while the memory is
    empty. `wants_before`: whether the strategy needs `Outputs.before_BC`. `loss_q`: see `class_loss`.
    """

    num_draws = 0
    wants_before = False

    def __init__(self, *, loss_q: float = 0.0) -> None:
        self.loss_q = loss_q

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        """Returns the scalar whose gradient is followed."""
        return self.class_loss(fresh)

    def backward(self, parameters: Sequence[Tensor], fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        """Leaves the gradient of a step in `parameters`, whose gradients are None; returns the loss, detached."""
        loss = self.loss(fresh, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def end_stage(self, parameters: Sequence[Tensor], losses: Iterable[Tensor]) -> None:
        """Takes note that a stage is over. `losses` yields the loss of each of its samples, with its gradient."""

    def class_loss(self, outputs: Outputs) -> Tensor:
        """Returns the mean generalized cross-entropy of the samples."""
        return class_loss(outputs.logits_BC, outputs.labels_B, q=self.loss_q)


def class_loss(logits_BC: Tensor, labels_B: Tensor, *, q: float) -> Tensor:
    """Returns the mean generalized cross-entropy (1 - p_y^q) / q: Zhang, Sabuncu 2018 (arXiv:1805.07836, equation 6).

    q = 0 is cross-entropy; q = 1 is the mean absolute error, on which wrong labels have the least effect. The classes
    of a set of labels have their shares of the loss of a sample, relative to their share: it is 0 at p = shares.
    """
    if q == 0.0:
        return functional.cross_entropy(logits_BC, labels_B)
    log_p_BC = torch.log_softmax(logits_BC, dim=1)
    if labels_B.is_floating_point():
        log_ratios_BC = (log_p_BC - labels_B.clamp(min=1e-6).log()).clamp(max=0.0)
        return -(labels_B * torch.expm1(q * log_ratios_BC)).sum(dim=1).mean() / q
    return -torch.expm1(q * log_p_BC.gather(1, labels_B[:, None])).mean() / q
