"""The grid of a matrix: the values to which its weights are rounded. Training learns the scales of the grid.

    QTensor --Grid.from_tensor--> Grid: a float16 scale for each row, a multiplier for each group of 64 inputs
    w_NK --round_to--> q_NK int8        `model.quantize.quantize_on` stores these

    n8g64: q = clip(round(w / scale))        w4g64: q = m * clip(round(w / (scale * m)))
    bcsr16x4.w8: q = clip(round(w / scale)) in the blocks that the mask stores, and 0 in the others

The multipliers are chosen once, by the smallest squared error, and then stay the same. So does the mask of a sparse
matrix: a weight outside of it is 0, and has no gradient. Scales are learnt by LSQ (Esser
et al., arXiv 1902.08153): `lsq_gradient` is its equation 3, times the gradient scale of its section 2.2. The learnt
parameter is the logarithm of a scale relative to its first value. So one learning rate fits all rows, and weight decay
pulls a scale towards its first value.

A matrix without a grid gets new scales whenever it changes, from the largest value of each row. With a grid, a training
step changes only a few integers. So a version differs from its predecessor in a few bytes.

Shape suffixes: N outputs, K inputs, G = K / 64 groups, or K / 32 bytes of a mask.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kernels.linear_i4.reference import GROUP, MAX_MULTIPLIER
from kernels.sparse_i8.reference import expand
from model.nested import MAX_Q8
from model.qtensor import GROUPED, N8G64, W4G64, QTensor
from model.sparse import BCSR, MAX_SPARSE, unpack_mask

MAX_Q4 = 7 * MAX_MULTIPLIER
"""The largest value of an INT4 weight, in units of its scale. The smallest value is -128."""

_LARGEST = {N8G64: MAX_Q8, W4G64: MAX_Q4, BCSR: MAX_SPARSE}

_BITS = {N8G64: 8, W4G64: 4, BCSR: 64}
"""The number of each scheme in a state dict: its bits, or the weights of a block."""

_MIN_NIBBLE = -8
_MAX_NIBBLE = 7


class Grid(nn.Module):
    """The scales and multipliers of a matrix of `Strata`, whose submodule `grid` it is.

    `scheme` is n8g64, w4g64, or bcsr16x4.w8. The last has no multipliers: there, m_NG is the mask (`model.sparse`).
    """

    bits: Tensor
    start_N: Tensor
    m_NG: Tensor

    def __init__(self, scheme: str, scale_N: Tensor, m_NG: Tensor) -> None:
        super().__init__()
        self.scheme = scheme
        # A state dict only contains tensors, so it has the scheme as a number of bits.
        self.register_buffer("bits", torch.tensor([_BITS[scheme]]))
        self.register_buffer("start_N", scale_N.float())
        self.register_buffer("m_NG", m_NG.clone())
        self.shift_N = nn.Parameter(torch.zeros(len(scale_N)))
        """The learnt parameter of each scale: the binary logarithm of scale / first scale."""

    @classmethod
    def from_tensor(cls, tensor: QTensor) -> "Grid":
        """Returns a grid with the scales, and the multipliers or the mask, of a stored weight."""
        return cls(tensor.scheme, tensor.parts["scale"], tensor.parts[_pattern_part(tensor.scheme)])

    @property
    def pattern_part(self) -> str:
        """The name of the part of a stored weight that holds m_NG."""
        return _pattern_part(self.scheme)

    @property
    def scale_N(self) -> Tensor:
        """The scales as they are stored, float16."""
        return (self.start_N * self.shift_N.detach().exp2()).to(torch.float16)

    @property
    def largest(self) -> int:
        """The largest value in units of the scale."""
        return _LARGEST[self.scheme]


def _pattern_part(scheme: str) -> str:
    return "mask" if scheme == BCSR else "m"


def attach_grids(encoder: nn.Module, tensors: Mapping[str, QTensor]) -> None:
    """Gives each module without a grid the grid of its stored weight. `tensors` has stored weights by module path."""
    for name, tensor in tensors.items():
        if tensor.scheme in (*GROUPED, BCSR) and find_grid(encoder.get_submodule(name)) is None:
            encoder.get_submodule(name).grid = Grid.from_tensor(tensor)


def set_grids(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Prepares the modules for `load_state_dict`: gives each module the grid that the state dict has for it.

    If the state dict has the weight of a module but no grid for it, the grid of the module is removed.
    """
    for name in state:
        path = name.removesuffix(".weight")
        module = encoder.get_submodule(path) if path != name else None
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        prefix = f"{path}.grid."
        if f"{prefix}bits" in state:
            scheme = next(scheme for scheme, bits in _BITS.items() if bits == int(state[f"{prefix}bits"]))
            module.grid = Grid(scheme, state[f"{prefix}start_N"], state[f"{prefix}m_NG"])
        elif find_grid(module) is not None:
            del module.grid


def is_grid_part(name: str) -> bool:
    """Returns whether the entry of a state dict with this name belongs to a grid.

    >>> is_grid_part("layers.3.up.grid.m_NG"), is_grid_part("layers.3.up.weight")
    (True, False)
    """
    return ".grid." in name


def find_grid(layer: nn.Module) -> Grid | None:
    """Returns the grid of a layer, or of the layer whose matrix it shares; None if there is none."""
    grid = getattr(layer, "grid", None)
    assert grid is None or isinstance(grid, Grid)
    return grid


def round_to(grid: Grid, w_NK: Tensor) -> Tensor:
    """Rounds a weight to the nearest values of its grid; returns them in units of the scale, q_NK int8."""
    v_NGK, step_NG1, low_NG1, high_NG1 = _in_steps(grid, w_NK.detach())
    return torch.round_(v_NGK.clamp_(low_NG1, high_NG1)).mul_(step_NG1).flatten(1).to(torch.int8)


def lsq_gradient(grid: Grid, w_NK: Tensor, q_NK: Tensor, grad_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the gradients of the weight [N, K] and of `grid.shift_N` [N] by LSQ.

    `grad_NK` is the gradient of the rounded weight. For a value within the range, the weight's gradient is grad_NK, and
    d(scale * q) / d(scale) = q - w / scale. Beyond the range, the weight's gradient is 0, and d(scale * q) / d(scale) =
    q.
    """
    v_NGK, _, low_NG1, high_NG1 = _in_steps(grid, w_NK.detach())
    # Outside of a mask, the range is empty, and even 0 has no gradient.
    is_inside_NK = ((v_NGK >= low_NG1) & (v_NGK <= high_NG1) & (low_NG1 < high_NG1)).flatten(1)
    scale_N = grid.scale_N.float()
    by_scale_NK = torch.where(is_inside_NK, q_NK - w_NK.detach() / scale_N[:, None], q_NK.float())
    factor = math.log(2) / math.sqrt(w_NK.shape[1] * grid.largest)
    return grad_NK * is_inside_NK, (grad_NK * by_scale_NK).sum(dim=1) * scale_N * factor


def _in_steps(grid: Grid, w_NK: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns w_NGK in steps of the grid, the step in units of the scale, and the lowest and highest step."""
    v_NK = w_NK / grid.scale_N.float()[:, None]
    if grid.scheme == BCSR:
        high_NK = expand(unpack_mask(grid.m_NG)).float().mul_(MAX_SPARSE)
        return v_NK, torch.ones(1), -high_NK, high_NK
    v_NGK = v_NK.reshape(*grid.m_NG.shape, GROUP)
    m_NG1 = grid.m_NG.float().unsqueeze(2)
    if grid.scheme == N8G64:
        # Both planes, hi and lo, must be nibbles: q8 = m * hi + lo.
        low_NG1 = ((m_NG1 + 1) * _MIN_NIBBLE).clamp_(min=-MAX_Q8)
        return v_NGK, torch.ones_like(m_NG1), low_NG1, ((m_NG1 + 1) * _MAX_NIBBLE).clamp_(max=MAX_Q8)
    return v_NGK.div_(m_NG1), m_NG1, torch.full_like(m_NG1, _MIN_NIBBLE), torch.full_like(m_NG1, _MAX_NIBBLE)
