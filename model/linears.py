"""The linear layers of an encoder in full precision. They may have scaled inputs, a shared matrix or a low-rank pair.

    y = W x + b                    nn.Linear or `ScaledLinear`; `TiedLinear` if W belongs to a lower layer
    y = W x + b + B (A x)          any of these after `add_lora` (LoRA, arXiv 2106.09685, equation 3)

`product` computes y. Its argument is the function for a single product: `full_precision`, or a function that rounds
like the kernels.

Shape suffixes: M tokens, K inputs, N outputs, R rank.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from kernels.linear_i4.reference import GROUP

Linear: TypeAlias = Callable[[Tensor, nn.Linear], Tensor]
"""Computes y_MN of x_MK and a layer: `full_precision`, or `fakequant.fake_layer`, which rounds like the kernels."""


def full_precision(x_MK: Tensor, layer: nn.Linear) -> Tensor:
    """Returns y_MN float32, without rounding to integers."""
    return cast(Tensor, layer(x_MK))


class ScaledLinear(nn.Linear):
    """A linear layer with scaled inputs.

    Before both are rounded, the inputs are multiplied by `in_scale` [K], and the weight is divided by it. In full
    precision, the scales cancel and are not applied. `model.calibration` chooses the scales, and training does not
    change them.
    """

    in_scale: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("in_scale", torch.ones(in_features))


_BANK_ATTRIBUTES = ("weight", "in_scale", "grid")


class TiedLinear(nn.Linear):
    """A linear layer that uses the matrix of a lower layer, `bank`, and has its own bias.

    The bank owns the weight, the `in_scale`, and the grid (`model.grid`), if there is one.
    """

    def __init__(self, bank: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features = bank.in_features
        self.out_features = bank.out_features
        # The bank is not a submodule, so that the weight occurs once in `parameters` and `state_dict`.
        self.__dict__["bank"] = bank
        self.bias = nn.Parameter(torch.zeros(bank.out_features))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["bank"], name) if name in _BANK_ATTRIBUTES else super().__getattr__(name)


class TiedScaledLinear(TiedLinear, ScaledLinear):
    """A `TiedLinear` whose bank is a `ScaledLinear`."""


class LoraLinear(nn.Linear):
    """One matrix of a low-rank pair."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)


class ScaledLoraLinear(LoraLinear, ScaledLinear):
    """The matrix A of the pair of `base`. Both read the same inputs, so A has the `in_scale` of `base`."""

    def __init__(self, base: ScaledLinear, rank: int) -> None:
        nn.Linear.__init__(self, base.in_features, rank, bias=False)
        # The base is not a submodule, as its weight must not occur twice.
        self.__dict__["base"] = base

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["base"].in_scale if name == "in_scale" else super().__getattr__(name)


def add_lora(layer: nn.Linear, rank: int) -> None:
    """Adds a low-rank pair A [R, K], B [N, R] to a layer, as submodules. B is 0, so results stay the same."""
    scaled = layer if isinstance(layer, ScaledLinear) else None
    first = ScaledLoraLinear(scaled, rank) if scaled else LoraLinear(layer.in_features, rank)
    second = LoraLinear(rank, layer.out_features)
    nn.init.zeros_(second.weight)
    layer.add_module("lora_a", first)
    layer.add_module("lora_b", second)


def lora_pair(layer: nn.Linear) -> tuple[LoraLinear, LoraLinear] | None:
    """Returns the low-rank pair A, B of a layer; None if it has none."""
    pair = [child for child in layer.children() if isinstance(child, LoraLinear)]
    return (pair[0], pair[1]) if pair else None


def effective_weight(layer: nn.Linear) -> Tensor:
    """Returns w_NK = W + B A: the layer's matrix with its low-rank pair included."""
    pair = lora_pair(layer)
    return layer.weight if pair is None else layer.weight + pair[1].weight @ pair[0].weight


def product(x_MK: Tensor, layer: nn.Linear, linear: Linear) -> Tensor:
    """Computes y_MN of a layer, including its low-rank pair if it has one. `linear` computes each product."""
    y_MN = linear(x_MK, layer)
    pair = lora_pair(layer)
    return y_MN if pair is None else y_MN + linear(linear(x_MK, pair[0]), pair[1])


def linear_at(module: nn.Module, path: str) -> nn.Linear:
    """Returns the linear layer at the module path `path`."""
    layer = module.get_submodule(path)
    assert isinstance(layer, nn.Linear), f"{path} is a {type(layer).__name__}"
    return layer


def is_nested(layer: nn.Linear) -> bool:
    """Returns whether a layer's matrix is stored as INT8 with INT4 inside: no LoRA matrix, K a multiple of GROUP."""
    return layer.in_features % GROUP == 0 and not isinstance(layer, LoraLinear)
