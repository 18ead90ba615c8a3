"""A small encoder with random weights, for tests that do not need a trained encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

import torch
from hypothesis import strategies as st
from torch import Tensor

from model.config import LayerSpec, Span, StrataConfig
from model.qtensor import QTensor
from model.quantized import INT8, QuantizedModel
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata

SMALL = StrataConfig(
    vocab=60, d_model=64, n_layers=2, n_heads=4, d_ff=128, max_pos=80, head_features=48, label_capacity=8
)

TOKEN_IDS = st.lists(
    st.lists(st.integers(0, SMALL.vocab - 1), min_size=1, max_size=SMALL.max_pos), min_size=1, max_size=6
)
"""Batches of token ids, in any order of lengths."""


TIED = LayerSpec(attention=0, ffn=0, lora_rank=4)
LOCAL = Span(kind="local", window=5, sinks=1)
TOPK = Span(kind="topk", topk=1, block=16, window=2)

FAMILY = {
    "plain": SMALL,
    "tied": replace(SMALL, layers=(LayerSpec(lora_rank=4), TIED)),
    "attention tied": replace(SMALL, n_layers=3, layers=(LayerSpec(), LayerSpec(attention=0), LayerSpec(attention=0))),
    "groups": replace(SMALL, layers=(LayerSpec(kv_heads=2), LayerSpec(kv_heads=1))),
    "pruned": replace(SMALL, layers=(LayerSpec(heads=3), LayerSpec(heads=2, d_ff=64))),
    "wide heads": replace(SMALL, n_heads=3, head_width=32),
    "spans": replace(SMALL, spans=(LOCAL, TOPK), layers=(LayerSpec(spans=((1, 0), (3, 1))), LayerSpec())),
    "rope": replace(SMALL, positions="rope", n_heads=2),
    "narrow": replace(SMALL, embed_dim=32),
    "modernbert": replace(
        SMALL,
        n_layers=3,
        n_heads=2,
        positions="rope",
        norm_place="pre",
        activation="geglu",
        spans=(LOCAL,),
        layers=(
            LayerSpec(rope_base=160000.0),
            LayerSpec(spans=((2, 0),)),
            LayerSpec(spans=((2, 0),)),
        ),
    ),
    "gemma": replace(
        SMALL,
        n_heads=3,
        head_width=32,
        positions="rope",
        norm="rms",
        norm_place="sandwich",
        norm_embedding=False,
        norm_heads=True,
        activation="geglu_tanh",
        project=True,
        spans=(LOCAL,),
        layers=(LayerSpec(kv_heads=1, spans=((3, 0),)), LayerSpec(kv_heads=1, rope_base=1e6)),
    ),
    "eurobert": replace(
        SMALL,
        n_heads=2,
        positions="rope",
        norm="rms",
        norm_place="pre",
        norm_embedding=False,
        activation="swiglu",
        layers=(LayerSpec(kv_heads=1),) * 2,
    ),
    "pre-norm tied": replace(
        SMALL,
        norm_place="pre",
        norm_embedding=False,
        project=True,
        activation="geglu",
        layers=(LayerSpec(lora_rank=4), TIED),
    ),
    "all": replace(
        SMALL,
        n_layers=3,
        head_width=32,
        embed_dim=16,
        positions="rope",
        spans=(LOCAL, TOPK),
        layers=(
            LayerSpec(kv_heads=2, lora_rank=4, spans=((2, 0), (2, 1))),
            LayerSpec(attention=0, kv_heads=2, d_ff=64, spans=((4, 1),)),
            LayerSpec(attention=0, ffn=0, kv_heads=2, lora_rank=8),
        ),
    ),
}
"""One config for each feature of the family, and one config with all features."""


def small_strata(config: StrataConfig = SMALL, *, seed: int = 0) -> Strata:
    """Returns an encoder with weights as large as trained ones, so that attention is not uniform."""
    generator = torch.Generator().manual_seed(seed)
    # The constructor draws biases from the global generator, whose state depends on the tests that ran before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        strata = Strata(config).eval().requires_grad_(False)
    for parameter in strata.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
        else:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    for scale in strata.buffers():
        scale.copy_(torch.exp2(torch.randint(-1, 2, scale.shape, generator=generator)))
    return strata


def stored(tensors: Mapping[str, QTensor]) -> dict[str, QTensor]:
    """Returns the tensors with digests, as if they had been read from bytes."""
    return {name: replace(each, digest=sha256(each.to_blob()).hexdigest()) for name, each in tensors.items()}


def select_rows(batch: RaggedBatch, x_TD: Tensor, texts: Sequence[int]) -> tuple[RaggedLayout, Tensor]:
    """Returns the rows of some texts of a batch, in the layout of a batch with only these texts."""
    pieces = [batch.layout.split(x_TD)[text] for text in texts]
    layout = RaggedLayout.of(list(map(len, pieces)))
    return layout, layout.join(pieces)


def model_logits(model: QuantizedModel, batch: RaggedBatch, precision: str = INT8) -> Tensor:
    """Returns the logits of a batch [B, len(model.labels)], in the caller's order."""
    return model.head.logits(model.encoder.encode(batch, precision), len(model.labels))
