"""torchao's INT4, as a peer: the encoder with its fake quantization in place of the layers, trained or as it is.

Weights have 4 bits in groups of 64, inputs 8 bits for each token: the granularity of ours. Token embeddings are rounded
once, by the same quantizer, and not trained, as ours are. Its conversion keeps these numerics, so what is measured here
is what it would serve.
"""

import copy

import torch
from torch import nn

from evals.results.row import Skip
from kernels.linear_i4.reference import GROUP
from model.strata import Strata


@torch.no_grad()
def prepared(strata: Strata) -> Strata:
    """Returns a copy with torchao's fake quantization. Raises Skip where torchao is not installed."""
    try:
        from torchao.quantization import quantize_
        from torchao.quantization.qat import FakeQuantizedEmbedding, IntxFakeQuantizeConfig, QATConfig
    except ImportError as error:
        raise Skip(f"torchao cannot be imported: {error}") from error
    fake = copy.deepcopy(strata)
    int4: torch.dtype = torch.int4  # type: ignore[attr-defined]  # missing in torch's stubs
    weights = IntxFakeQuantizeConfig(int4, group_size=GROUP, is_symmetric=True)
    inputs = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
    config = QATConfig(activation_config=inputs, weight_config=weights, step="prepare")
    quantize_(fake.layers, config, filter_fn=lambda module, _: isinstance(module, nn.Linear))
    word = FakeQuantizedEmbedding.from_embedding(fake.embed.word, weights)
    fake.embed.word.weight.copy_(word.weight_fake_quantizer(word.weight))
    fake.embed.word.requires_grad_(False)
    return fake
