"""Turns an encoder into one that is INT4 alone: the matrices of its layers, and its token embeddings.

    Strata, Gram matrices of its inputs (`model.calibration`) --GPTQ--> Strata on grids --encoder_tensors--> w4g64

The new weights are what is stored, exactly; training may go on from there, through the same rounding
(`model.fakequant`). Norms and biases stay in full precision and position embeddings in INT8, as does a matrix whose
inputs are no whole groups: in MiniLM they are 3 % of the bytes.

Embeddings are rounded to the smallest squared error of each group: GPTQ has no inputs of theirs to weigh. They are not
trained either (`trainable`), as a step would touch every row of the vocabulary.

Measured on CLINC150's validation texts (mean cosine with full precision, and points that the head of full precision
loses): one scale for each row 0.910 and 1.3, the smallest error of each group 0.959 and 0.6, GPTQ 0.978 and 0.2. With
scaled inputs (SmoothQuant) GPTQ has 0.976: what makes inputs easier to round makes INT4 weights harder to.
"""

import copy
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from kernels.linear_i4.reference import GROUP
from model.grid import Grid, attach_grids, grid_of
from model.linears import ScaledLinear
from model.qtensor import N8G64
from model.quantize import quantize_w4g64
from model.strata import Strata
from model.weights import encoder_names, encoder_tensors

WORD = "embed.word"


def to_nested(strata: Strata) -> Strata:
    """Returns a copy with the same weights, whose matrices are on the grids of INT8 with INT4 inside.

    Raises NonFinite.
    """
    nested = copy.deepcopy(strata)
    attach_grids(nested, encoder_tensors(nested))
    return nested


@torch.no_grad()
def to_int4(strata: Strata, grams: Mapping[str, Tensor] = MappingProxyType({})) -> Strata:
    """Returns a copy that is INT4 alone. Raises NonFinite.

    A matrix whose Gram matrix is in `grams`, by name, is rounded by GPTQ for such inputs, another one to the smallest
    squared error. Its inputs are not scaled.
    """
    int4 = copy.deepcopy(strata)
    for name, module in int4_modules(int4).items():
        stored = quantize_w4g64(name, module.weight, gram_KK=grams.get(name))
        if isinstance(module, ScaledLinear):
            module.in_scale.fill_(1.0)
        module.weight.copy_(stored.dequantize())
        module.grid = Grid.of(stored)
    return int4


def trainable(strata: Strata) -> dict[str, nn.Parameter]:
    """Returns the parameters that training may move, by name: all that ask for it, but token embeddings on a grid."""
    is_fixed = grid_of(strata.embed.word) is not None
    parameters = {name: value for name, value in strata.named_parameters() if value.requires_grad}
    return {name: value for name, value in parameters.items() if not (is_fixed and name.startswith(f"{WORD}."))}


def int4_modules(strata: Strata) -> dict[str, nn.Linear | nn.Embedding]:
    """Returns what can be INT4: the matrices of the layers, and the token embeddings, where they are whole groups."""
    modules: dict[str, nn.Linear | nn.Embedding] = {}
    for name, (scheme, shape) in encoder_names(strata.config).items():
        if scheme == N8G64 or (name == WORD and shape[1] % GROUP == 0):
            module = strata.get_submodule(name)
            assert isinstance(module, nn.Linear | nn.Embedding)
            modules[name] = module
    return modules
