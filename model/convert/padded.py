"""Implements a plain encoder as others run it: texts padded to a rectangle, a mask over the padding.

    ids_BT, mask_BT --embed--> x_BTD --blocks--> x_BTD --mean over real tokens, or the first, unit length--> z_BD

The weights are those of `Strata`, in full precision; every peer of the benchmarks, and `model.onnx` of an exported
version, are made from here. The attention has two forms:
`fused=True` calls torch's own operation, which torch and OpenVINO run fastest; `fused=False` spells it out in the
operations that ONNX Runtime's graph optimizer recognises.

Shape suffixes: B texts, T tokens of the longest, D width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.strata import Block, Strata

MASKED = -10000.0
"""The term that is added to the score of a padded token; ONNX Runtime's optimizer knows this number."""


class PaddedBlock(nn.Module):
    def __init__(self, block: Block, *, fused: bool) -> None:
        super().__init__()
        self.num_heads = block.plan.heads
        self.fused = fused
        self.query, self.key, self.value = _thirds(block.qkv)
        self.out = block.out
        self.norm1 = block.norm1
        self.up = block.up
        self.down = block.down
        self.norm2 = block.norm2

    def forward(self, x_BTD: Tensor, bias_B11T: Tensor) -> Tensor:
        q, k, v = (self._heads(part(x_BTD)) for part in (self.query, self.key, self.value))
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias_B11T)
        else:
            scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
            mixed = torch.matmul(functional.softmax(scores + bias_B11T, dim=-1), v)
        mixed_BTD = mixed.permute(0, 2, 1, 3).reshape(x_BTD.shape[0], x_BTD.shape[1], x_BTD.shape[2])
        x_BTD = self.norm1(self.out(mixed_BTD) + x_BTD)
        y_BTD: Tensor = self.norm2(self.down(functional.gelu(self.up(x_BTD))) + x_BTD)
        return y_BTD

    def _heads(self, x_BTD: Tensor) -> Tensor:
        width = x_BTD.shape[2] // self.num_heads
        return x_BTD.view(x_BTD.shape[0], x_BTD.shape[1], self.num_heads, width).permute(0, 2, 1, 3)


class Padded(nn.Module):
    """The padded encoder. It shares the tensors of the `Strata` that it is made from."""

    def __init__(self, strata: Strata, *, fused: bool = True) -> None:
        super().__init__()
        embed = strata.embed
        self.word = embed.word
        assert embed.position is not None, "this form of the encoder has learned positions"
        self.position_PD = nn.Parameter(embed.position.weight[embed.first_position :].detach(), requires_grad=False)
        self.pools_first = strata.config.pooling == "cls"
        self.norm = embed.norm
        self.segment_D = nn.Parameter(embed.segment.weight[0].detach(), requires_grad=False)
        blocks = [block for block in strata.layers if isinstance(block, Block)]
        self.blocks = nn.ModuleList(PaddedBlock(block, fused=fused) for block in blocks)
        self.requires_grad_(False).eval()

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        mask = mask_BT.to(torch.float32)
        x_BTD = self.norm(self.word(ids_BT) + self.position_PD[: ids_BT.shape[1]] + self.segment_D)
        bias_B11T = (1.0 - mask[:, None, None, :]) * MASKED
        for block in self.blocks:
            x_BTD = block(x_BTD, bias_B11T)
        if self.pools_first:
            return functional.normalize(x_BTD[:, 0], dim=1)
        weight_BT1 = mask[:, :, None]
        return functional.normalize((x_BTD * weight_BT1).sum(1) / weight_BT1.sum(1), dim=1)


def _thirds(qkv: nn.Linear) -> list[nn.Linear]:
    thirds: list[nn.Linear] = []
    for weight, bias in zip(qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True):
        part = nn.Linear(weight.shape[1], weight.shape[0])
        part.weight = nn.Parameter(weight.detach())
        part.bias = nn.Parameter(bias.detach())
        thirds.append(part)
    return thirds
