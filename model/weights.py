"""The weights of an encoder as stored tensors, and back.

    Strata --encoder_tensors--> {name: QTensor} --to_strata--> Strata

Matrices and embeddings are INT8 per row, norms float32 (gain over bias). Names are the module paths of `Strata`, so a
version that trained the top block replaces six tensors and shares the rest by digest.
"""

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from model.config import StrataConfig
from model.errors import MissingWeight, WrongShape
from model.qtensor import FP32, N8G64, W8C, QTensor
from model.quantize import plain, quantize_n8g64, quantize_w8c
from model.strata import ScaledLinear, Strata

HEAD = "head."

MODULE_PATHS = {"embed.type": "embed.segment"}
"""Weight name -> path of its module in `Strata`, where they differ."""


def encoder_names(config: StrataConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every weight of the encoder: name -> scheme and shape."""
    width = config.d_model
    inner = config.d_ff
    names: dict[str, tuple[str, tuple[int, ...]]] = {
        "embed.word": (W8C, (config.vocab, width)),
        "embed.position": (W8C, (config.max_pos, width)),
        "embed.type": (W8C, (config.type_vocab, width)),
        "embed.norm": (FP32, (2, width)),
    }
    for index in range(config.n_layers):
        names |= {
            f"layers.{index}.qkv": (N8G64, (3 * width, width)),
            f"layers.{index}.out": (N8G64, (width, width)),
            f"layers.{index}.norm1": (FP32, (2, width)),
            f"layers.{index}.up": (N8G64, (inner, width)),
            f"layers.{index}.down": (N8G64, (width, inner)),
            f"layers.{index}.norm2": (FP32, (2, width)),
        }
    return names


def encoder_tensors(
    strata: Strata, *, first_layer: int | None = None, grams: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, QTensor]:
    """The stored form of all weights, or only of blocks `first_layer` and up. Raises NonFinite.

    A matrix whose Gram matrix is in `grams` (`model.calibration`), by name, is rounded for such inputs.
    """
    names = encoder_names(strata.config)
    if first_layer is not None:
        names = {name: kind for name, kind in names.items() if layer_of(name) >= first_layer}
    return {
        name: _stored(name, scheme, strata.get_submodule(MODULE_PATHS.get(name, name)), grams.get(name))
        for name, (scheme, _) in names.items()
    }


def check_encoder(config: StrataConfig, tensors: Mapping[str, QTensor]) -> None:
    """Raises MissingWeight or WrongShape unless `tensors` has every weight of the encoder as the config wants it."""
    for name, (scheme, shape) in encoder_names(config).items():
        check_weight(tensors, name, scheme, shape)


def check_weight(tensors: Mapping[str, QTensor], name: str, scheme: str, shape: tuple[int, ...]) -> QTensor:
    """The weight `name`; raises MissingWeight or WrongShape."""
    if name not in tensors:
        raise MissingWeight(f"{name} is missing; expected {scheme} {list(shape)}")
    tensor = tensors[name]
    if (tensor.scheme, tensor.shape) != (scheme, shape):
        raise WrongShape(f"{name} is {tensor.scheme} {list(tensor.shape)}; expected {scheme} {list(shape)}")
    return tensor


def to_strata(config: StrataConfig, tensors: Mapping[str, QTensor]) -> Strata:
    """The encoder in full precision with the values that are served; ready to be trained on, in evaluation mode."""
    check_encoder(config, tensors)
    with torch.device("meta"):
        strata = Strata(config)
    state = {}
    for name in encoder_names(config):
        path = MODULE_PATHS.get(name, name)
        tensor = tensors[name]
        value = tensor.dequantize()
        bias = tensor.bias
        if tensor.scheme == FP32:
            value, bias = value[0].clone(), value[1]
        state[f"{path}.weight"] = value
        if bias is not None:
            state[f"{path}.bias"] = bias.clone()
        if isinstance(strata.get_submodule(path), ScaledLinear):
            in_scale_K = tensor.in_scale
            state[f"{path}.in_scale"] = torch.ones(value.shape[1]) if in_scale_K is None else in_scale_K.clone()
    strata.load_state_dict(state, assign=True)
    return strata.eval()


def encoder_key(digests: Mapping[str, str]) -> str:
    """One hex digest over the encoder's weights (name -> digest; the head's are left out).

    Two versions with the same key can share one encoder object.
    """
    lines: Iterable[str] = (f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(line for line in lines if not line.startswith(HEAD)).encode()).hexdigest()


def layer_of(name: str) -> int:
    """The block that a weight belongs to; -1 for the embeddings."""
    return int(name.split(".")[1]) if name.startswith("layers.") else -1


def _stored(name: str, scheme: str, module: nn.Module, gram_KK: Tensor | None) -> QTensor:
    if isinstance(module, nn.LayerNorm):
        return plain(name, torch.stack((module.weight, module.bias)))
    assert isinstance(module, nn.Linear | nn.Embedding), f"{name} is a {type(module).__name__}"
    bias_N = module.bias if isinstance(module, nn.Linear) else None
    if scheme == N8G64:
        in_scale_K = module.in_scale if isinstance(module, ScaledLinear) else None
        return quantize_n8g64(name, module.weight, bias_N, gram_KK=gram_KK, in_scale_K=in_scale_K)
    return quantize_w8c(name, module.weight, bias_N)
