"""The model of a version as a graph for ONNX Runtime: token ids in, logits and vectors out, in float32.

    input_ids, attention_mask [B, T] --encoder, head--> logits [B, C], vectors [B, D]

Rejected: the INT8 of the kernels (the operations of ONNX round otherwise, so the graph would be a third arithmetic).
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from learner.errors import require
from model.convert.plain import Padded
from model.strata import Strata
from services.exported.format import ONNX

OPSET: Final = 17


class PaddedClassifier(nn.Module):
    """The encoder of padded texts, and the head on it."""

    def __init__(self, strata: Strata, head: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.encoder = Padded(strata, fused=False)
        for name, value in head.items():
            self.register_buffer(name, value)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        z_BD = self.encoder(ids_BT, mask_BT)
        features_BR = torch.relu(z_BD @ self.get_buffer("proj").T)
        return features_BR @ self.get_buffer("out").T + self.get_buffer("bias"), z_BD


def write_onnx(folder: Path, strata: Strata, head: Mapping[str, Tensor]) -> None:
    """Writes the graph into `folder`. Raises DataError, which names the extra, where onnx is not installed."""
    require("onnx", extra="onnx")
    ids_BT = torch.ones(2, 8, dtype=torch.int64)
    axes = {0: "batch", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is the one that needs no package besides onnx
        torch.onnx.export(
            PaddedClassifier(strata, head).eval(),
            (ids_BT, ids_BT),
            str(folder / ONNX),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits", "vectors"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}, "vectors": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
