import copy

import torch
from torch import nn

from evals.continual.contender import Passes, counting_passes


def test_samples_are_counted_with_and_without_a_backward_pass() -> None:
    passes = Passes()
    net = nn.Linear(3, 2)
    with counting_passes(net, passes):
        net(torch.zeros(5, 3))
        with torch.no_grad():
            net(torch.zeros(7, 3))
    net(torch.zeros(9, 3))
    assert (passes.gradients, passes.forwards) == (5, 7)


def test_a_copy_that_is_made_while_counting_adds_to_the_same_counts() -> None:
    """A distillation strategy copies the net as its teacher."""
    passes = Passes()
    net = nn.Linear(3, 2)
    with counting_passes(net, passes), torch.no_grad():
        copy.deepcopy(net)(torch.zeros(5, 3))
    assert passes.forwards == 5
