"""Makes the encoders of torch: full precision and bfloat16, eager and compiled, dynamic INT8, and torchao's INT8."""

import copy
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.harness.machine import require_bfloat16
from bench.peers.exported import folder
from bench.peers.rectangles import Ids, Run, Variant
from lifelong.compress.plain import PaddedEncoder
from model.strata import Strata


def fp32(strata: Strata) -> Sequence[Variant]:
    return (_variant("fused attention", PaddedEncoder(strata)),)


def bf16(strata: Strata) -> Sequence[Variant]:
    require_bfloat16()
    return (_variant("autocast", _autocast(PaddedEncoder(strata))),)


def compiled(strata: Strata) -> Sequence[Variant]:
    """Compiles the encoder in full precision. Needs a C++ compiler."""
    _use_inductor()
    return (_variant("inductor, frozen", torch.compile(PaddedEncoder(strata), dynamic=True)),)


def compiled_bf16(strata: Strata) -> Sequence[Variant]:
    """Compiles the encoder in bfloat16. Needs a C++ compiler."""
    require_bfloat16()
    _use_inductor()
    return (_variant("inductor, frozen, autocast", _autocast(torch.compile(PaddedEncoder(strata), dynamic=True))),)


def int8(strata: Strata) -> Sequence[Variant]:
    """Quantizes weights per channel, which is as fast as one scale for a matrix and far more accurate."""
    from torch.ao import quantization

    quantize: Any = quantization.quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.backends.quantized.engine = "x86"
        spec = {torch.nn.Linear: quantization.per_channel_dynamic_qconfig}
        return (_variant("x86 engine", quantize(copy.deepcopy(PaddedEncoder(strata)), spec)),)


def torchao(strata: Strata) -> Sequence[Variant]:
    """Compiles torchao's INT8, which is several times slower than full precision without. Needs a C++ compiler."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    _use_inductor()
    model = copy.deepcopy(PaddedEncoder(strata))
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return (_variant("inductor, frozen", torch.compile(model, dynamic=True)),)


def _use_inductor() -> None:
    """Makes torch compile with constant weights, and cache compiled code on disk."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder(f"inductor-{torch.__version__}"))
    from torch._inductor import config

    config.freezing = True


def _autocast(model: Any) -> Callable[..., torch.Tensor]:
    def encode(ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z_BD: torch.Tensor = model(ids_BT, mask_BT)
        return z_BD.float()

    return encode


def _variant(name: str, model: Any) -> Variant:
    def run(ids_BT: Ids, mask_BT: Ids) -> torch.Tensor:
        z_BD: torch.Tensor = model(torch.from_numpy(ids_BT), torch.from_numpy(mask_BT))
        return z_BD

    def load(threads: int, lanes: int) -> list[Run]:
        torch.set_num_threads(threads)
        return [run] * lanes

    return Variant(name, load, max_lanes=1)
