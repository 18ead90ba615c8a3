import copy

import torch
from torch import nn

from evals.continual.passes import PassCounter


def test_samples_are_counted_by_whether_a_backward_pass_can_follow() -> None:
    counter = PassCounter()
    net = nn.Linear(3, 2)
    with counter.counting(net):
        net(torch.zeros(5, 3))
        with torch.no_grad():
            net(torch.zeros(7, 3))
    net(torch.zeros(9, 3))
    assert (counter.gradients, counter.forwards) == (5, 7)


def test_a_copy_that_is_made_while_counting_counts_for_the_same_counter() -> None:
    """A strategy that distils copies the net as its teacher."""
    counter = PassCounter()
    net = nn.Linear(3, 2)
    with counter.counting(net), torch.no_grad():
        copy.deepcopy(net)(torch.zeros(5, 3))
    assert counter.forwards == 5
