"""Exports the encoder for OpenVINO: bfloat16, calibrated INT8, INT8 weights with dynamic quantization of activations.

    Strata -> PaddedEncoder -> fp32.xml --NNCF, calibrated (exported.py)--> static.xml, mixed.xml
                                 --NNCF, weights alone--> weights.xml, activations in groups of 64 or 128 inputs

Everything that is not INT8 is float32, or bfloat16 if the processor has it. These are two peers, because the faster one
may be less accurate. If all texts have the same length, each peer is also tried with the shape fixed at compile time.
All peers have the latency hint.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.harness.machine import require_bfloat16
from bench.peers.exported import NUM_BATCHES, cached, calibration_batches, model_folder
from bench.peers.rectangles import Ids, Run, Shape, Variant
from lifelong.compress.plain import PaddedEncoder
from model.strata import Strata

DOWN = (r".*\.down/.*MatMul",)


def in_bf16(make: Callable[[Strata, str], Sequence[Variant]]) -> Callable[[Strata], Sequence[Variant]]:
    """Returns `make` with bfloat16 for everything that is not INT8."""

    def make_bf16(strata: Strata) -> Sequence[Variant]:
        require_bfloat16()
        return make(strata, "bf16")

    return make_bf16


def unquantized(strata: Strata, precision: str) -> Sequence[Variant]:
    return (_variant(_exported(strata), precision),)


def static(strata: Strata, precision: str = "f32") -> Sequence[Variant]:
    """Makes the fastest variant: the range of every activation is known, so no range is computed at run time."""
    return (_variant(_calibrated(strata, "static.xml"), precision),)


def mixed(strata: Strata, precision: str = "f32") -> Sequence[Variant]:
    """Quantizes all matrices except the second one of each feed-forward part, whose input has outliers.

    The cosine is 0.999.
    """
    return (_variant(_calibrated(strata, "mixed.xml", *DOWN), precision),)


def dynamic_64(strata: Strata, precision: str = "f32") -> Sequence[Variant]:
    return _dynamic(strata, 64, precision)


def dynamic_128(strata: Strata, precision: str = "f32") -> Sequence[Variant]:
    return _dynamic(strata, 128, precision)


def _dynamic(strata: Strata, group: int, precision: str) -> Sequence[Variant]:
    def compress(path: Path) -> None:
        import nncf
        import openvino

        model = openvino.Core().read_model(source)
        openvino.save_model(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM), path)

    source = _exported(strata)
    path = cached(source.with_name("weights.xml"), compress)
    return (_variant(path, precision, group=group),)


def _exported(strata: Strata) -> Path:
    def export(path: Path) -> None:
        import openvino
        import torch

        ids_BT = torch.ones(2, 8, dtype=torch.int64)
        model = openvino.convert_model(PaddedEncoder(strata), example_input=(ids_BT, ids_BT))
        openvino.save_model(model, path, compress_to_fp16=False)

    return cached(model_folder("openvino", strata) / "fp32.xml", export)


def _calibrated(strata: Strata, name: str, *left_out: str) -> Path:
    def quantize(path: Path) -> None:
        import nncf
        import openvino

        data = nncf.Dataset(list(calibration_batches()))
        model = openvino.Core().read_model(source)
        quantized = nncf.quantize(
            model,
            data,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=NUM_BATCHES,
            ignored_scope=nncf.IgnoredScope(patterns=list(left_out)),
        )
        openvino.save_model(quantized, path)

    source = _exported(strata)
    return cached(source.with_name(name), quantize)


def _variant(path: Path, precision: str, *, group: int | None = None) -> Variant:
    dynamic = {} if group is None else {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group)}
    load = functools.partial(_load, path, {"INFERENCE_PRECISION_HINT": precision} | dynamic)
    return Variant(f"rest {precision}", load, fixes_shape=True)


def _load(path: Path, settings: dict[str, str], threads: int, lanes: int, shape: Shape | None = None) -> list[Run]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    if shape is not None:
        model.reshape({each: list(shape) for each in model.inputs})
    streams = {"NUM_STREAMS": lanes, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", settings | streams)
    return [_request(compiled) for _ in range(lanes)]


def _request(compiled: Any) -> Run:
    request = compiled.create_infer_request()

    def run(ids_BT: Ids, mask_BT: Ids) -> object:
        return request.infer([ids_BT, mask_BT], share_inputs=True)[0]

    return run
