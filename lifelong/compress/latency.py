"""The latency of an encoder on this machine, as the sum of the measured times of its layers.

    Genes --a key for each layer--> LayerTimes --the sum--> ms        a key that is missing --two such layers, timed-->

Layers of one shape take the same time, however they are tied, so a search measures a few dozen layers instead of
hundreds of encoders (HAT: Wang et al., arXiv 2005.14187, section 3.2, predicts latencies from such measurements). The
embedding takes the same time in every encoder and is left out.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from torch import Tensor

from lifelong.compress.space import Genes, Space
from lifelong.compress.spans import shortest_times_s
from lifelong.compress.sparsity import attach_sparse_grids, feed_forward_matrices, most_important
from model.linears import linear_at
from model.plan import BlockPlan, build_plan
from model.quantized import INT4, INT8, QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.weights import encoder_tensors

BUDGET_S: Final = 0.1
"""The processor time in which the layers of one key are timed."""

VOCAB: Final = 64
"""Rows of the embedding of a timed encoder, which does not change the time of its layers."""

NUM_LAYERS: Final = 2
"""Layers of a timed encoder: a layer can only have a low-rank pair if another layer shares its matrix."""


class LayerTimes:
    """The times of layers in microseconds, by key, for a text of `num_tokens` tokens. New keys are measured."""

    def __init__(self, space: Space, times_us: Mapping[str, float]) -> None:
        self._space = space
        self.times_us = dict(times_us)

    def ms(self, genes: Genes) -> float:
        """Returns the time of all layers for one text, in milliseconds, on as many threads as torch uses."""
        total_us = 0.0
        for block in build_plan(self._space.config(genes)).blocks:
            key = self._key(block, genes)
            if key not in self.times_us:
                self.times_us[key] = self._measured_us(block, genes)
            total_us += self.times_us[key]
        return total_us / 1e3

    def _key(self, block: BlockPlan, genes: Genes) -> str:
        ranks = (block.qkv.lora_rank, block.up.lora_rank)
        shape = (self._space.dense.d_model, block.head_width, block.inner, self._space.num_tokens)
        spans = [(heads, span.kind) for heads, span in block.spans]
        return json.dumps([*shape, block.kv_heads, spans, *ranks, genes.bits, genes.sparsity])

    def _measured_us(self, block: BlockPlan, genes: Genes) -> float:
        space = self._space
        one = space.config(genes).layer(block.index)
        # Layers of different banks, unless the low-rank pair requires a common one.
        layers = tuple(
            replace(
                one,
                attention=0 if block.qkv.lora_rank else layer,
                ffn=0 if block.up.lora_rank else layer,
                lora_rank=max(block.qkv.lora_rank, block.up.lora_rank),
            )
            for layer in range(NUM_LAYERS)
        )
        config = replace(space.config(genes), vocab=VOCAB, n_layers=NUM_LAYERS, layers=layers)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            strata = Strata(config).eval().requires_grad_(False)
        if genes.sparsity:
            masks: dict[str, Tensor] = {}
            for name in feed_forward_matrices(strata):
                w_NK = linear_at(strata, name).weight
                masks[name] = most_important(w_NK, torch.ones(w_NK.shape[1]), genes.sparsity)
            attach_sparse_grids(strata, masks)
        encoder = QuantizedEncoder.from_tensors(config, encoder_tensors(strata))
        ids = random.Random(0).choices(range(VOCAB), k=min(space.num_tokens, config.max_sequence))
        batch = RaggedBatch.of([ids])
        (seconds,) = shortest_times_s([partial(encoder.encode, batch, gene_precision(genes))], BUDGET_S)
        return 1e6 * seconds / NUM_LAYERS


def gene_precision(genes: Genes) -> str:
    """Returns the precision in which the encoder answers."""
    return INT4 if genes.is_int4 else INT8
