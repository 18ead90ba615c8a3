"""Makes an encoder of a config and of tensors by their names, and changes whole heads of one.

    Strata --state_of--> {name: tensor} --a change--> {name: tensor} --rebuilt--> Strata

Names are those of `model.plan`, with the parameter's kind: `layers.3.qkv.weight`, `layers.3.qkv.lora_a.weight`. A
matrix that layers share is there once, under the name of the first of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from model.config import LayerSpec, StrataConfig
from model.grid import is_of_grid
from model.plan import plan_of
from model.strata import Strata

State: TypeAlias = dict[str, Tensor]

OnRows: TypeAlias = Callable[[int, Tensor], Tensor]
"""Changes the rows, or the columns, of a tensor of the layer with this index."""


def state_of(strata: Strata) -> State:
    """Returns copies of all parameters and buffers, by name, without grids: those are of the values before a change."""
    values = strata.state_dict().items()
    return {name: value.detach().clone() for name, value in values if not is_of_grid(name)}


def rebuilt(config: StrataConfig, state: Mapping[str, Tensor]) -> Strata:
    """Returns the encoder with these tensors, in evaluation mode. Raises RuntimeError, naming what does not fit."""
    with torch.device("meta"):
        strata = Strata(config)
    strata.load_state_dict({name: value.contiguous() for name, value in state.items()}, assign=True)
    return strata.requires_grad_(True).eval()


def with_layers(config: StrataConfig, specs: Sequence[LayerSpec]) -> StrataConfig:
    """Returns the config with these records of its layers."""
    return replace(config, layers=tuple(specs))


def map_heads(strata: Strata, specs: Sequence[LayerSpec], *, rows: OnRows, columns: OnRows) -> Strata:
    """Returns the encoder with `rows` done to the rows of every `qkv`, and `columns` to the columns of every `out`.

    They must do the same in all layers that share a matrix.
    """
    state = state_of(strata)
    for block in plan_of(strata.config).blocks:
        for kind in ("weight", "bias", "lora_b.weight"):
            _change(state, f"{block.qkv.path}.{kind}", block.index, rows)
        for kind in ("weight", "lora_a.weight"):
            _change(state, f"{block.out.path}.{kind}", block.index, columns)
    return rebuilt(with_layers(strata.config, specs), state)


def _change(state: State, name: str, layer: int, change: OnRows) -> None:
    if name in state:  # only the first of the layers that share a matrix has it, and not every matrix has a pair
        state[name] = change(layer, state[name])
