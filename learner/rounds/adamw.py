"""The AdamW optimizer, with a linear decay of the learning rates to 0.

It is algorithm 2 of Loshchilov and Hutter, arXiv 1711.05101. The steps call torch's own function, so the results are
the same bits as with `torch.optim.AdamW` and `PolynomialLR`.

Rejected: `torch.optim.AdamW`. It imports torch's compiler, only to disable it for its own methods. The import takes two
seconds of processor time at each start of a learner, while labels wait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(slots=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay, with the state of the optimizer for them.

    The weight decay is decoupled: a step subtracts rate * decay * weight from each weight.
    """

    parameters: Sequence[nn.Parameter]
    rate: float
    decay: float
    _means: list[Tensor] = field(default_factory=list)
    _squares: list[Tensor] = field(default_factory=list)
    _num_steps: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._num_steps = [torch.tensor(0.0) for _ in self.parameters]

    def tensors(self) -> dict[str, Tensor]:
        """Returns the optimizer's state by name. The tensors are not copies: the next step changes them."""
        by_name = {"means": self._means, "squares": self._squares, "steps": self._num_steps}
        state: dict[str, Tensor] = {}
        for name, values in by_name.items():
            state |= {f"{name}.{index}": value for index, value in enumerate(values)}
        return state

    def step(self) -> None:
        """Takes one step. Every parameter must have a gradient."""
        gradients = [parameter.grad for parameter in self.parameters]
        assert all(gradient is not None for gradient in gradients)
        adamw(
            list(self.parameters),
            # The assertion has shown that there is no None.
            gradients,  # type: ignore[arg-type]
            self._means,
            self._squares,
            [],
            self._num_steps,
            foreach=False,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.rate,
            weight_decay=self.decay,
            eps=EPSILON,
            maximize=False,
        )


class AdamW:
    """Optimizes the parameters of `groups`. After `num_steps` steps the rates are 0, and further steps do nothing."""

    def __init__(self, groups: Sequence[ParameterGroup], *, num_steps: int) -> None:
        self._groups = groups
        self._num_steps = num_steps
        self._num_done = 0

    @torch.no_grad()
    def step(self) -> None:
        """Takes one step of every group, then lowers the rates."""
        for group in self._groups:
            group.step()
        self._lower_rates()

    def _lower_rates(self) -> None:
        self._num_done += 1
        if self._num_done > self._num_steps:
            return
        # The factor of `PolynomialLR`, so that the rates have the same bits.
        before = 1.0 - (self._num_done - 1) / self._num_steps
        after = 1.0 - self._num_done / self._num_steps
        for group in self._groups:
            group.rate *= after / before

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state for `restore`, by name."""
        state: dict[str, Tensor] = {}
        for index, group in enumerate(self._groups):
            state |= {f"{index}.{name}": value for name, value in group.tensors().items()}
        return state

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], num_done: int) -> None:
        """Restores the state that `tensors` returned after `num_done` steps. Raises KeyError if a tensor is missing.

        The optimizer must not have taken a step yet.
        """
        assert not self._num_done, "restore a new optimizer: this one has taken steps"
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
        for _ in range(num_done):
            self._lower_rates()

    def zero_grad(self) -> None:
        """Sets every gradient to None."""
        for group in self._groups:
            for parameter in group.parameters:
                parameter.grad = None
