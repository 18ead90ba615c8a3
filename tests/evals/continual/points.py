"""Four classes of points in eight dimensions, which are easy to learn and easy to forget."""

import torch
from torch import Tensor

from evals.continual.contender import Contender
from evals.streams.benchmark import Part

CENTRES = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))


def part(*labels: int, count: int = 1_000, seed: int = 0) -> Part[Tensor]:
    """Draws points around the centres of these classes."""
    rng = torch.Generator().manual_seed(seed)
    labels_N = torch.tensor(labels)[torch.randint(len(labels), (count,), generator=rng)]
    return Part(2 * CENTRES[labels_N] + torch.randn(count, 8, generator=rng), labels_N)


def accuracy(learner: Contender[Tensor], *labels: int) -> float:
    """Returns the share of other points of these classes that the learner classifies correctly."""
    test = part(*labels, seed=9)
    return float((learner.predict_many(test.inputs) == test.labels_N).float().mean())
