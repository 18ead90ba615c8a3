"""The outputs of a network of one linear layer, small enough for computation by hand."""

import torch
from torch import Tensor

from learner.rounds.strategies import Outputs

X_BD = torch.tensor([[1.0, 0.0], [0.5, -1.0], [2.0, 1.0], [0.0, 1.0]])
LABELS_B = torch.tensor([0, 1, 2, 1])


def weights() -> Tensor:
    """w_CD, one parameter for which gradients are computed."""
    return torch.tensor([[0.1, 0.2], [-0.3, 0.4], [0.5, -0.6]], requires_grad=True)


def outputs(w_CD: Tensor, *places: int, before: float | None = None) -> Outputs:
    """The outputs for some of the rows. All their logits from before are `before`."""
    at = list(places)
    stored = None if before is None else torch.full((len(at), 3), before)
    return Outputs(X_BD[at] @ w_CD.T, LABELS_B[at], stored)
