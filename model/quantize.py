"""From a float weight to its stored form.

    matrix of a block --quantize_n8g64--> INT8 with INT4 inside      embedding, head --quantize_w8c--> INT8
    norm --plain--> float32

Both begin alike: a float16 scale for each row, symmetric, rounded up so that nothing is clamped.

Shape suffixes: N outputs (rows), K inputs.
"""

import torch
from torch import Tensor

from kernels.linear_i4.reference import GROUP, high_plane, pack_nibbles
from model.errors import WrongShape
from model.gptq import gptq_round
from model.nested import MAX_Q8, split
from model.qtensor import FP32, N8G64, W8C, QTensor, check_finite

_MAX_W8C = 127


def quantize_w8c(name: str, w_NK: Tensor, bias_N: Tensor | None = None) -> QTensor:
    """INT8 per row: |w - scale * q| <= scale / 2.

    Raises WrongShape for another shape, NonFinite for a NaN, an infinity, or a row beyond float16 scales.
    """
    _check_shape(name, w_NK, bias_N)
    q_NK, scale_N = round_rows(w_NK, _MAX_W8C)
    return _quantized(name, W8C, q_NK, scale_N, {"q": q_NK}, bias_N)


def quantize_n8g64(
    name: str,
    w_NK: Tensor,
    bias_N: Tensor | None = None,
    *,
    gram_KK: Tensor | None = None,
    in_scale_K: Tensor | None = None,
) -> QTensor:
    """INT8 per row with an INT4 weight in its upper plane: K must be a multiple of 64.

    With the Gram matrix of its inputs, every weight is within half a step of where the errors of others have moved it;
    without, |w - scale * q| <= scale / 2. With `in_scale_K`, that is true of the weight divided by it, and inputs are
    multiplied by it before they are rounded (`gram_KK` is theirs then). Raises as `quantize_w8c` does.
    """
    _check_shape(name, w_NK, bias_N, group=GROUP)
    extra = {} if in_scale_K is None else {"in_scale": in_scale_K.clone()}
    w_NK = w_NK if in_scale_K is None else w_NK.detach() / in_scale_K
    q_NK, scale_N = round_rows(w_NK, MAX_Q8)
    hi_NJ, lo_NJ, m_NG = split(q_NK, None if gram_KK is None else gram_KK.diagonal())
    if gram_KK is not None and torch.isfinite(scale_N).all():
        scaled_NK = w_NK.detach().float() / scale_N.float()[:, None]
        q_NK, hi_NK = gptq_round(scaled_NK, m_NG.repeat_interleave(GROUP, dim=1), gram_KK)
        hi_NJ = pack_nibbles(hi_NK)
        lo_NJ = pack_nibbles(q_NK - high_plane(hi_NJ, m_NG))
    return _quantized(name, N8G64, q_NK, scale_N, {"hi": hi_NJ, "lo": lo_NJ, "m": m_NG} | extra, bias_N)


def plain(name: str, value: Tensor) -> QTensor:
    """A weight that stays float32 (norms). Raises NonFinite."""
    parts = {"value": value.detach().float().clone()}
    check_finite(name, parts)
    return QTensor(name, FP32, parts)


def round_rows(w_NK: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """q_NK int8 from -largest to largest, and scale_N float16, infinite where there is none."""
    w_NK = w_NK.detach().float()
    scale_N = _half_rounded_up(w_NK.abs().amax(dim=1) / largest)
    return torch.round(w_NK / scale_N.float()[:, None]).clamp_(-largest, largest).to(torch.int8), scale_N


def _quantized(
    name: str, scheme: str, q_NK: Tensor, scale_N: Tensor, integers: dict[str, Tensor], bias_N: Tensor | None
) -> QTensor:
    parts = integers | {"scale": scale_N, "ksum": q_NK.sum(dim=1, dtype=torch.int32)}
    if bias_N is not None:
        parts["bias"] = bias_N.detach().float().clone()
    check_finite(name, parts)
    return QTensor(name, scheme, parts)


def _half_rounded_up(scale_N: Tensor) -> Tensor:
    """The smallest positive float16 not below `scale_N`; infinite where there is none."""
    half_N = scale_N.to(torch.float16)
    next_N = (half_N.view(torch.int16) + 1).view(torch.float16)  # the next larger, for values from 0 up
    return torch.where((half_N.float() < scale_N) | (half_N == 0), next_N, half_N)


def _check_shape(name: str, w_NK: Tensor, bias_N: Tensor | None, *, group: int = 1) -> None:
    is_matrix = w_NK.dim() == 2 and 0 not in w_NK.shape and not w_NK.shape[1] % group
    if not is_matrix or (bias_N is not None and bias_N.shape != w_NK.shape[:1]):
        bias = None if bias_N is None else tuple(bias_N.shape)
        multiple = f", K a multiple of {group}" if group > 1 else ""
        raise WrongShape(f"{name}: weight {tuple(w_NK.shape)} and bias {bias}; expected [N, K]{multiple} and [N]")
