"""The module of a user in full precision, with what slow rounds ask of `Strata`: one block, which is the module.

    inputs x_T1 --forward_from(0)--> module --unit length--> z_BD          state dict --tensors_of--> QTensors

Training goes through the module as it is served: in float32, so there is no rounding to train through.

Shape suffixes: T numbers of all inputs, B inputs, D width.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import WrongShape
from model.linears import Linear, full_precision
from model.modules.config import ModuleConfig
from model.modules.encoder import EncoderCode, check_vectors
from model.qtensor import QTensor
from model.quantize import plain
from model.ragged import RaggedBatch, RaggedLayout

PREFIX = "layers.0."
"""How the names of its weights begin, as those of the only block."""

MAX_EXACT = 1 << 24
"""The largest whole number below which float32 has all of them."""


class WholeModule(nn.Module):
    """The module of `code`, with the weights that its constructor gives."""

    def __init__(self, code: EncoderCode) -> None:
        super().__init__()
        self.config: ModuleConfig = code.config
        self.embed = nn.Identity()  # nothing lies below the block
        self.layers = nn.ModuleList([code.new_module()])
        self._trained = [name for name, each in self.layers.named_parameters() if each.requires_grad]

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Returns z_BD of unit length for the inputs of `batch`."""
        return self.forward_from(0, batch.ids_T[:, None], batch.layout)

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        """Returns z_BD of unit length, in the caller's order, from the inputs. `linear` has nothing to round here."""
        assert layer == 0, "there is one block"
        inputs = layout.split(x_TD[:, 0])
        z_BD = check_vectors(self.config.path, self.layers[0](inputs), len(inputs), self.config.d_model)
        return functional.normalize(z_BD, dim=1)

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        """Returns the parameters of the blocks from `first_layer` on, which are trained from now on.

        Those that the constructor made without a gradient stay as they are.
        """
        named = dict(self.layers.named_parameters()) if first_layer == 0 else {}
        trained = [named[name] for name in self._trained if name in named]
        for parameter in trained:
            parameter.requires_grad_()
        return trained

    @property
    def is_trainable(self) -> bool:
        """Whether a slow round has anything to train."""
        return bool(self._trained)

    def resize_head(self, *, head_features: int, label_capacity: int) -> None:
        """Gives the config a head of these sizes."""
        self.config = replace(self.config, head_features=head_features, label_capacity=label_capacity)


@torch.no_grad()
def module_tensors(whole: WholeModule) -> dict[str, QTensor]:
    """Returns the weights and buffers of the module as they are stored, in float32. Raises NonFinite or WrongShape."""
    tensors: dict[str, QTensor] = {}
    for name, value in whole.layers[0].state_dict().items():
        if not value.is_floating_point() and value.numel() and int(value.abs().max()) >= MAX_EXACT:
            raise WrongShape(f"{name} is {value.dtype} with values of {MAX_EXACT} and more, which float32 has not")
        tensors[PREFIX + name] = plain(PREFIX + name, value.float())
    return tensors


def load_module(code: EncoderCode, tensors: Mapping[str, QTensor]) -> nn.Module:
    """Returns a module of `code` with the stored weights. Raises WrongShape, naming what does not fit."""
    module = code.new_module()
    own = module.state_dict()
    stored = {name.removeprefix(PREFIX): each for name, each in tensors.items() if name.startswith(PREFIX)}
    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name in own:
            state[name] = tensor.dequantize().to(own[name].dtype)
    missing = own.keys() - state.keys()
    unknown = stored.keys() - own.keys()
    wrong = [name for name, value in state.items() if value.shape != own[name].shape]
    if missing or unknown or wrong:
        raise WrongShape(
            f"{code.config.path}: its weights lack {sorted(missing)}, have {sorted(unknown)} besides, and are of "
            f"another shape for {wrong}"
        )
    module.load_state_dict(state)
    return module.eval().requires_grad_(requires_grad=False)
