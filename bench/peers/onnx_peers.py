"""Exports the encoder for ONNX Runtime, with INT8 weights, and activations quantized at run time or with calibration.

    Strata -> PaddedEncoder -> plain.onnx --transformer optimizer--> fused.onnx;  each --quantize_dynamic--> *-int8.onnx
                        plain.onnx --quantize_static, calibrated (exported.py)--> plain-qdq.onnx

Weights have a scale for each channel, which is as fast as one scale for a matrix and has a cosine of 0.994 instead of
0.96.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from bench.peers.exported import cached, calibration_batches, model_folder
from bench.peers.rectangles import Ids, Run, Variant
from lifelong.compress.plain import PaddedEncoder
from model.strata import Strata


def plain(strata: Strata) -> Sequence[Variant]:
    return (_variant("dynamic, per channel", _quantized(_plain(strata))),)


def fused(strata: Strata) -> Sequence[Variant]:
    return (_variant("dynamic, per channel", fused_int8(strata)),)


def fused_int8(strata: Strata) -> Path:
    """Returns the file of the INT8 model with fused attention."""
    heads = strata.config.n_heads
    width = strata.config.d_model

    def fuse(path: Path) -> None:
        from onnxruntime.transformers import optimizer

        model = optimizer.optimize_model(str(source), model_type="bert", num_heads=heads, hidden_size=width)
        attentions = model.get_fused_operator_statistics()["Attention"]
        assert attentions == len(strata.layers), f"the optimizer fused {attentions} attentions"
        model.save_model_to_file(str(path))

    source = _plain(strata)
    return _quantized(cached(source.with_name("fused.onnx"), fuse))


def static(strata: Strata) -> Sequence[Variant]:
    """Quantizes the products with weights between QuantizeLinear and DequantizeLinear (QDQ), with calibrated ranges.

    The ranges are minima and maxima, the library's default. The cosine is 0.92.
    """

    def quantize(path: Path) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class CalibrationReader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._batches = calibration_batches()

            def get_next(self) -> dict[str, Ids] | None:
                batch = next(self._batches, None)
                return None if batch is None else {"ids": batch[0], "mask": batch[1]}

        quantize_static(
            source,
            path,
            CalibrationReader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul"],
            extra_options={"MatMulConstBOnly": True},
        )

    source = _plain(strata)
    return (_variant("static QDQ, per channel", cached(source.with_name("plain-qdq.onnx"), quantize)),)


def _plain(strata: Strata) -> Path:
    def export(path: Path) -> None:
        ids_BT = torch.ones(2, 8, dtype=torch.int64)
        torch.onnx.export(
            PaddedEncoder(strata, fused=False),
            (ids_BT, ids_BT),
            str(path),
            input_names=["ids", "mask"],
            output_names=["z"],
            dynamic_axes={"ids": {0: "b", 1: "t"}, "mask": {0: "b", 1: "t"}, "z": {0: "b"}},
            opset_version=17,
            dynamo=False,  # the optimizer recognises attention only in the graph of this exporter
        )

    return cached(model_folder("onnxruntime", strata) / "plain.onnx", export)


def _quantized(source: Path) -> Path:
    def quantize(path: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            source,
            path,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Attention", "Gather"],
            extra_options={"DefaultTensorType": 1},
        )

    return cached(source.with_name(f"{source.stem}-int8.onnx"), quantize)


def _variant(name: str, path: Path) -> Variant:
    def load(threads: int, lanes: int) -> list[Run]:
        return [_session(path, threads // lanes) for _ in range(lanes)]

    return Variant(name, load)


def _session(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(ids_BT: Ids, mask_BT: Ids) -> object:
        return session.run(None, {"ids": ids_BT, "mask": mask_BT})[0]

    return run
