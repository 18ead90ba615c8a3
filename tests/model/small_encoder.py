"""A small encoder with random weights, for tests that do not need a trained one."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from model.config import StrataConfig
from model.quantized import INT8, QuantizedModel
from model.ragged import RaggedBatch
from model.strata import Strata

SMALL = StrataConfig(
    vocab=60, d_model=64, n_layers=2, n_heads=4, d_ff=128, max_pos=80, head_features=48, label_capacity=8
)

TOKEN_IDS = st.lists(
    st.lists(st.integers(0, SMALL.vocab - 1), min_size=1, max_size=SMALL.max_pos), min_size=1, max_size=6
)
"""Batches of token ids, in any order of lengths."""


def small_strata(*, seed: int = 0) -> Strata:
    """Returns an encoder with weights as large as trained ones, so that attention is not uniform."""
    generator = torch.Generator().manual_seed(seed)
    strata = Strata(SMALL).eval().requires_grad_(False)
    for parameter in strata.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
        else:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    for scale in strata.buffers():
        scale.copy_(torch.exp2(torch.randint(-1, 2, scale.shape, generator=generator)))
    return strata


def model_logits(model: QuantizedModel, batch: RaggedBatch, precision: str = INT8) -> Tensor:
    """Returns the logits of a batch [B, len(model.labels)], in the caller's order."""
    return model.head.logits(model.encoder.encode(batch, precision), len(model.labels))
