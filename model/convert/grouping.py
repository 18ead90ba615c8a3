"""Grouped-query attention: the keys and values of neighbouring heads become one, by their mean.

    heads 0 1 2 | 3 4 5 ...        k, v of a group: the mean of its heads' projections

After GQA (Ainslie et al., arXiv 2305.13245, section 2.1), whose authors found means better than picking a head.
"""

from dataclasses import replace

import torch
from torch import Tensor

from model.convert.rebuild import map_heads
from model.errors import WrongConfig
from model.plan import plan_of
from model.strata import Strata


@torch.no_grad()
def pool_kv_heads(strata: Strata, kv_heads: int) -> Strata:
    """Returns the encoder with `kv_heads` heads of keys and values in each layer. Raises WrongConfig.

    Where the heads of a group were equal, it computes the same as before.
    """
    blocks = plan_of(strata.config).blocks
    if kv_heads < 1 or any(block.kv_heads % kv_heads for block in blocks):
        found = sorted({block.kv_heads for block in blocks})
        raise WrongConfig(f"kv_heads is {kv_heads}; expected a divisor of every layer's, which are {found}")

    def pooled(layer: int, rows: Tensor) -> Tensor:
        block = blocks[layer]
        num_queries = block.heads * block.head_width
        by_group = (2, kv_heads, block.kv_heads // kv_heads, block.head_width, *rows.shape[1:])
        keys_values = rows[num_queries:].reshape(by_group)
        return torch.cat((rows[:num_queries], keys_values.mean(dim=2).flatten(0, 2)))

    specs = [replace(strata.config.layer(block.index), kv_heads=kv_heads) for block in blocks]
    return map_heads(strata, specs, rows=pooled, columns=lambda _, out: out)
