"""Tests the description of an encoder's shape and costs."""

import dataclasses

from model.config import MINILM_L6, LayerSpec
from services.members.source import cost_lines, shape_and_costs


def test_the_costs_of_minilm() -> None:
    facts = shape_and_costs(MINILM_L6, [128])
    assert facts["parameters"]["total"] == 22_565_376
    assert facts["bytes"]["fp32"] > 7.3 * facts["bytes"]["w4g64"]
    assert list(facts["flops"]) == ["128"]
    assert facts["flops"]["128"]["total"] == sum(
        facts["flops"]["128"][each] for each in ("matrices", "attention", "routing")
    )


def test_a_line_for_each_layer_says_whose_matrices_it_uses() -> None:
    layers = [LayerSpec(), LayerSpec(attention=0, lora_rank=8), *[LayerSpec()] * 4]
    shown = list(cost_lines(dataclasses.replace(MINILM_L6, layers=tuple(layers)), [16]))
    assert shown[0] == "layer 0: 12 full heads x 32, 12 of keys, inner 1536"
    assert shown[1].endswith("qkv of layers.0.qkv, out of layers.0.out, rank 8 of its own")
    assert len(shown) == 6 + 3
