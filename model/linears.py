"""The linear layers of an encoder in full precision: with scaled inputs, tied to another layer's matrix, in pairs.

    y = W x + b                    `ScaledLinear`, or torch's own; `TiedLinear` where W is a lower layer's
    y = W x + b + B (A x)          the same with a low-rank pair, which `add_lora` gives it (LoRA, arXiv 2106.09685)

`product` computes them, by a function of one layer: `full_precision`, or one that rounds as the kernels do.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from kernels.linear_i4.reference import GROUP

Linear: TypeAlias = Callable[[Tensor, nn.Linear], Tensor]
"""Computes y_MN of x_MK and a layer: `full_precision`, or `fakequant.fake_layer` to train against served rounding."""


def full_precision(x_MK: Tensor, layer: nn.Linear) -> Tensor:
    return cast(Tensor, layer(x_MK))


class ScaledLinear(nn.Linear):
    """A linear layer whose inputs are multiplied, and its weight divided, by `in_scale` [K] before both are rounded.

    Full precision ignores the scales. `model.calibration` chooses them, and training does not change them.
    """

    in_scale: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("in_scale", torch.ones(in_features))


_BANK_ATTRIBUTES = ("weight", "in_scale", "grid")


class TiedLinear(nn.Linear):
    """The matrix of another layer, `bank`, with a bias of its own.

    The bank owns the weight, its `in_scale`, and its grid (`model.grid`) if it has one.
    """

    def __init__(self, bank: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features = bank.in_features
        self.out_features = bank.out_features
        self.__dict__["bank"] = bank  # not as a submodule, so that parameters and state have the weight once
        self.bias = nn.Parameter(torch.zeros(bank.out_features))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["bank"], name) if name in _BANK_ATTRIBUTES else super().__getattr__(name)


class TiedScaledLinear(TiedLinear, ScaledLinear):
    """A `TiedLinear` of a `ScaledLinear`."""


class LoraLinear(nn.Linear):
    """One matrix of a low-rank pair."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)


class ScaledLoraLinear(LoraLinear, ScaledLinear):
    """The first matrix of the pair of `beside`: both read the same inputs, with the same `in_scale`."""

    def __init__(self, beside: ScaledLinear, rank: int) -> None:
        nn.Linear.__init__(self, beside.in_features, rank, bias=False)
        self.__dict__["beside"] = beside

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["beside"].in_scale if name == "in_scale" else super().__getattr__(name)


def add_lora(layer: nn.Linear, rank: int) -> None:
    """Gives a layer the pair A [R, K], B [N, R] as its submodules. B is 0, so that it computes what it did before."""
    scaled = layer if isinstance(layer, ScaledLinear) else None
    first = ScaledLoraLinear(scaled, rank) if scaled else LoraLinear(layer.in_features, rank)
    second = LoraLinear(rank, layer.out_features)
    nn.init.zeros_(second.weight)
    layer.add_module("lora_a", first)
    layer.add_module("lora_b", second)


def lora_of(layer: nn.Linear) -> tuple[LoraLinear, LoraLinear] | None:
    """Returns the low-rank pair of a layer, if it has one."""
    pair = [each for each in layer.children() if isinstance(each, LoraLinear)]
    return (pair[0], pair[1]) if pair else None


def effective_weight(layer: nn.Linear) -> Tensor:
    """Returns w_NK with the product of the layer's pair added: what its outputs are, but for the bias, a product by."""
    pair = lora_of(layer)
    return layer.weight if pair is None else layer.weight + pair[1].weight @ pair[0].weight


def product(x_MK: Tensor, layer: nn.Linear, linear: Linear) -> Tensor:
    """Returns y_MN of a layer, and of its pair if it has one; each product rounds its own inputs."""
    y_MN = linear(x_MK, layer)
    pair = lora_of(layer)
    return y_MN if pair is None else y_MN + linear(linear(x_MK, pair[0]), pair[1])


def linear_at(module: nn.Module, path: str) -> nn.Linear:
    """Returns the linear layer at `path` of a module."""
    layer = module.get_submodule(path)
    assert isinstance(layer, nn.Linear), f"{path} is a {type(layer).__name__}"
    return layer


def is_nested(layer: nn.Linear) -> bool:
    """Whether a layer is stored with INT4 weights inside: if its inputs are whole groups, and not a pair's."""
    return layer.in_features % GROUP == 0 and not isinstance(layer, LoraLinear)
