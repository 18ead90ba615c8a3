"""Quantizes a float weight to its stored form (QTensor).

    matrix of a block --quantize_n8g64--> INT8 with INT4 inside      embedding, head --quantize_w8c--> INT8
    any of these, as INT4 alone --quantize_w4g64--> INT4             norm --plain--> float32
    matrix, Gram matrix of its inputs --gptq_round--> integers whose errors cancel for such inputs

All quantizers are symmetric, with a float16 scale for each row. The scale is rounded up, so that INT8 clamps no value.
INT4 clamps a few large values if this makes the squared error of the group smaller.

GPTQ rounds the columns of the weight one after the other, beginning with the input with the largest second moment. It
compensates the error of each column in the columns that are not rounded yet. The Gram matrix of the inputs (their
second moments) determines the compensation: Frantar et al., arXiv 2210.17323, equation 3, with the Cholesky factor of
the inverse. Here both planes of a nested weight are rounded in the same pass, each with its own errors: q8 to the
nearest integer, and hi to the nearest integer for which lo = q8 - m * hi is still a nibble. If a weight is INT4 alone,
only hi is rounded, without this condition.

Shape suffixes: N outputs (rows), K inputs, S rows that are rounded (N, or 2N: q8 above, q4 below), B inputs of a block.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from kernels.linear_i4.reference import GROUP, high_plane, pack_nibbles
from model.errors import WrongShape
from model.grid import MAX_Q4, Grid, round_to
from model.nested import MAX_Q8, mse_multipliers, planes, split
from model.qtensor import FP32, N8G64, W4G64, W8C, QTensor, check_finite
from model.sparse import BCSR, split_blocks

MAX_W8C = 127


def quantize_w8c(name: str, w_NK: Tensor, bias_N: Tensor | None = None, *, in_scale_K: Tensor | None = None) -> QTensor:
    """Quantizes a float weight [N, K] to INT8 (`w8c`) with a scale for each row: |w - scale * q| <= scale / 2.

    With `in_scale_K`, w / in_scale_K is quantized instead. Raises WrongShape for another shape, and NonFinite for a
    NaN, an infinity, or a row whose scale exceeds float16.
    """
    _check_shape(name, w_NK, bias_N)
    q_NK, scale_N = round_rows(w_NK if in_scale_K is None else w_NK / in_scale_K, MAX_W8C)
    parts = {"q": q_NK} if in_scale_K is None else {"q": q_NK, "in_scale": in_scale_K.clone()}
    return _quantized(name, W8C, q_NK, scale_N, parts, bias_N)


def quantize_n8g64(
    name: str,
    w_NK: Tensor,
    bias_N: Tensor | None = None,
    *,
    gram_KK: Tensor | None = None,
    in_scale_K: Tensor | None = None,
) -> QTensor:
    """Quantizes a float weight [N, K] to INT8 with INT4 inside (`n8g64`). K is a multiple of 64.

    Without `gram_KK`, |w - scale * q| <= scale / 2. With the Gram matrix of the inputs, `gram_KK`, the weight is
    rounded by GPTQ: every value is within scale / 2 of its compensated value. With `in_scale_K`, w / in_scale_K is
    quantized instead. The served inputs are then multiplied by `in_scale_K` before they are rounded, and `gram_KK` is
    the Gram matrix of the scaled inputs. Raises like `quantize_w8c`.
    """
    _check_shape(name, w_NK, bias_N, group=GROUP)
    if in_scale_K is not None:
        w_NK = w_NK.detach() / in_scale_K
    q_NK, scale_N = round_rows(w_NK, MAX_Q8)
    importance_K = None if gram_KK is None else gram_KK.diagonal()
    hi_NJ, lo_NJ, m_NG = split(q_NK, importance_K)
    if gram_KK is not None and torch.isfinite(scale_N).all():
        scaled_NK = w_NK.detach().float() / scale_N.float()[:, None]
        q_NK, hi_NK = gptq_round(scaled_NK, m_NG.repeat_interleave(GROUP, dim=1), gram_KK)
        hi_NJ = pack_nibbles(hi_NK)
        lo_NJ = pack_nibbles(q_NK - high_plane(hi_NJ, m_NG))
    parts = {"hi": hi_NJ, "lo": lo_NJ, "m": m_NG}
    if in_scale_K is not None:
        parts["in_scale"] = in_scale_K.clone()
    return _quantized(name, N8G64, q_NK, scale_N, parts, bias_N)


def quantize_w4g64(
    name: str,
    w_NK: Tensor,
    bias_N: Tensor | None = None,
    *,
    gram_KK: Tensor | None = None,
    in_scale_K: Tensor | None = None,
) -> QTensor:
    """Quantizes a float weight [N, K] to INT4 alone (`w4g64`): a scale for each row, a multiplier for each group.

    K is a multiple of 64. Of all multipliers, those with the smallest squared error are chosen. `gram_KK` and
    `in_scale_K` have the same meaning as in `quantize_n8g64`. Raises like `quantize_w8c`.
    """
    _check_shape(name, w_NK, bias_N, group=GROUP)
    scaled_NK = w_NK.detach().float() if in_scale_K is None else w_NK.detach() / in_scale_K
    scale_N = _round_up_to_float16(scaled_NK.abs().amax(dim=1) / MAX_Q4)
    check_finite(name, {"scale": scale_N})
    scaled_NK = scaled_NK / scale_N.float()[:, None]
    m_NG = mse_multipliers(scaled_NK, None if gram_KK is None else gram_KK.diagonal())
    if gram_KK is None:
        return quantize_on(name, Grid(W4G64, scale_N, m_NG), w_NK, bias_N, in_scale_K=in_scale_K)
    hi_NJ = pack_nibbles(gptq_round_int4(scaled_NK, m_NG.repeat_interleave(GROUP, dim=1), gram_KK))
    parts = {"hi": hi_NJ, "m": m_NG}
    if in_scale_K is not None:
        parts["in_scale"] = in_scale_K.clone()
    return _quantized(name, W4G64, high_plane(hi_NJ, m_NG), scale_N, parts, bias_N)


def quantize_on(
    name: str, grid: Grid, w_NK: Tensor, bias_N: Tensor | None = None, *, in_scale_K: Tensor | None = None
) -> QTensor:
    """Quantizes a float weight [N, K] to the nearest values of `grid`, as training does (`model.fakequant`).

    `in_scale_K` has the same meaning as in `quantize_n8g64`. Raises like `quantize_w8c`.
    """
    _check_shape(name, w_NK, bias_N, group=1 if grid.scheme == BCSR else GROUP)
    w_NK = w_NK.detach().float()
    check_finite(name, {"weight": w_NK})
    q_NK = round_to(grid, w_NK if in_scale_K is None else w_NK / in_scale_K)
    parts = {grid.pattern_part: grid.m_NG.clone()}
    if grid.scheme == N8G64:
        parts["hi"], parts["lo"] = planes(q_NK, grid.m_NG)
    elif grid.scheme == BCSR:
        parts["blocks"] = split_blocks(q_NK, grid.m_NG)
    else:
        parts["hi"] = pack_nibbles(q_NK // grid.m_NG.view(torch.int8).repeat_interleave(GROUP, dim=1))
    if in_scale_K is not None:
        parts["in_scale"] = in_scale_K.clone()
    return _quantized(name, grid.scheme, q_NK, grid.scale_N, parts, bias_N)


def plain(name: str, value: Tensor) -> QTensor:
    """Returns the stored form of a weight that is not quantized, such as a norm: float32 (`fp32`). Raises NonFinite."""
    parts = {"value": value.detach().float().clone()}
    check_finite(name, parts)
    return QTensor(name, FP32, parts)


def round_rows(w_NK: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Rounds each row of a weight to integers: returns q_NK int8 from -largest to largest, and scale_N float16.

    A scale that is too large for float16 is infinite.
    """
    w_NK = w_NK.detach().float()
    scale_N = _round_up_to_float16(w_NK.abs().amax(dim=1) / largest)
    return torch.round(w_NK / scale_N.float()[:, None]).clamp_(-largest, largest).to(torch.int8), scale_N


def _quantized(
    name: str, scheme: str, q_NK: Tensor, scale_N: Tensor, parts: dict[str, Tensor], bias_N: Tensor | None
) -> QTensor:
    """Returns the weight with the given parts, and scale, ksum and bias. Raises NonFinite."""
    parts = parts | {"scale": scale_N, "ksum": q_NK.sum(dim=1, dtype=torch.int32)}
    if bias_N is not None:
        parts["bias"] = bias_N.detach().float().clone()
    check_finite(name, parts)
    return QTensor(name, scheme, parts)


def _round_up_to_float16(scale_N: Tensor) -> Tensor:
    """Returns the smallest positive float16 that is not below each scale; it may be infinity."""
    half_N = scale_N.to(torch.float16)
    # For values >= 0, the next larger float16 is the next larger bit pattern.
    next_N = (half_N.view(torch.int16) + 1).view(torch.float16)
    return torch.where((half_N.float() < scale_N) | (half_N == 0), next_N, half_N)


def _check_shape(name: str, w_NK: Tensor, bias_N: Tensor | None, *, group: int = 1) -> None:
    is_matrix = w_NK.dim() == 2 and 0 not in w_NK.shape and not w_NK.shape[1] % group
    if not is_matrix or (bias_N is not None and bias_N.shape != w_NK.shape[:1]):
        bias = None if bias_N is None else tuple(bias_N.shape)
        multiple = f", K a multiple of {group}" if group > 1 else ""
        raise WrongShape(f"{name}: weight {tuple(w_NK.shape)} and bias {bias}; expected [N, K]{multiple} and [N]")


GPTQ_DAMPING = 0.01
"""The fraction of the mean second moment that is added to the diagonal of the Gram matrix, so that it is invertible. It
also prevents that errors are compensated by inputs that were always 0."""

_GPTQ_BLOCK = 64
"""GPTQ's block size: the errors of this many inputs are compensated in all later columns by one matrix product."""

_MIN_NIBBLE = -8
_MAX_NIBBLE = 7


def gptq_round(w_NK: Tensor, m_NK: Tensor, gram_KK: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds both planes of a nested weight by GPTQ: returns q8_NK and hi_NK, int8; hi and q8 - m * hi are nibbles.

    - `w_NK`: the float32 weight in units of its scale.
    - `m_NK`: the multiplier of each input.
    - `gram_KK`: the Gram matrix of the inputs, the mean of x x^T over the inputs x.
    """
    num_rows = len(w_NK)

    def both_planes(w_S: Tensor, m_N: Tensor) -> Tensor:
        q8_N, hi_N = _round(w_S[:num_rows], w_S[num_rows:], m_N)
        return torch.cat((q8_N, hi_N * m_N))

    q8_NK, q4_NK = torch.split(_compensated(torch.cat((w_NK, w_NK)), m_NK, gram_KK, both_planes), num_rows)
    return q8_NK.to(torch.int8), (q4_NK / m_NK).to(torch.int8)


def gptq_round_int4(w_NK: Tensor, m_NK: Tensor, gram_KK: Tensor) -> Tensor:
    """Rounds a weight that is INT4 alone by GPTQ: returns hi_NK, nibbles as int8. Its arguments: see `gptq_round`."""

    def int4(w_N: Tensor, m_N: Tensor) -> Tensor:
        return torch.round(w_N / m_N).clamp_(_MIN_NIBBLE, _MAX_NIBBLE) * m_N

    return (_compensated(w_NK, m_NK, gram_KK, int4) / m_NK).to(torch.int8)


def _compensated(
    w_SK: Tensor, m_NK: Tensor, gram_KK: Tensor, round_input: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Rounds the columns of `w_SK` one after the other by `round_input`, and compensates the error after each.

    `round_input` gets the column w_S of an input and its multipliers m_N, and returns the rounded column.
    """
    order_K = gram_KK.diagonal().argsort(descending=True, stable=True)
    compensation_KK = _compensation(gram_KK[order_K][:, order_K])
    w_KS = w_SK[:, order_K].t().contiguous()
    m_KN = m_NK[:, order_K].t().float()
    rounded_KS = torch.empty_like(w_KS)
    for first in range(0, len(w_KS), _GPTQ_BLOCK):
        block_BS = w_KS[first : first + _GPTQ_BLOCK]
        end = first + len(block_BS)
        error_BS = torch.empty_like(block_BS)
        for index, w_S in enumerate(block_BS):
            k = first + index
            rounded_KS[k] = round_input(w_S, m_KN[k])
            torch.sub(w_S, rounded_KS[k], out=error_BS[index])
            block_BS[index + 1 :].addr_(compensation_KK[k, k + 1 : end], error_BS[index], alpha=-1)
        # Inside a block, the error of each input is compensated at once. After it, all errors are compensated together.
        w_KS[end:].addmm_(compensation_KK[first:end, end:].t(), error_BS, alpha=-1)
    return rounded_KS[order_K.argsort()].t()


def _round(w8_N: Tensor, w4_N: Tensor, m_N: Tensor) -> tuple[Tensor, Tensor]:
    """Returns q8_N and hi_N: the nearest integers for which hi and lo = q8 - m * hi are nibbles."""
    max_q8 = torch.tensor(float(MAX_Q8))
    min_q8_N = torch.maximum(_MIN_NIBBLE * (m_N + 1), -max_q8)
    max_q8_N = torch.minimum(_MAX_NIBBLE * (m_N + 1), max_q8)
    q8_N = torch.round(w8_N).clamp_(min_q8_N, max_q8_N)
    min_hi_N = torch.ceil((q8_N - _MAX_NIBBLE) / m_N).clamp_(min=_MIN_NIBBLE)
    max_hi_N = torch.floor((q8_N - _MIN_NIBBLE) / m_N).clamp_(max=_MAX_NIBBLE)
    return q8_N, torch.round(w4_N / m_N).clamp_(min_hi_N, max_hi_N)


def _compensation(gram_KK: Tensor) -> Tensor:
    """Returns compensation_KK: an error of 1 at input k is compensated by -compensation[k, l] at each input l > k."""
    mean = gram_KK.diagonal().mean().clamp(min=1e-12)
    damped_KK = gram_KK + GPTQ_DAMPING * mean * torch.eye(len(gram_KK))
    # The flips make the Cholesky factor upper triangular: gram = root root^T.
    root_KK = torch.linalg.cholesky(damped_KK.flip(0, 1)).flip(0, 1)
    inverse_KK: Tensor = torch.linalg.solve_triangular(root_KK, torch.eye(len(gram_KK)), upper=True)
    return inverse_KK / inverse_KK.diagonal()[:, None]
