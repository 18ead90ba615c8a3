"""Overrides for a layer, and overrides that do not fit the other layers."""

from dataclasses import replace
from typing import Any

import pytest

from model.config import MINILM_L6, LayerSpec, Span
from model.errors import WrongConfig

LOCAL = Span(kind="local", window=64, sinks=4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "other"}, "kind of a span is 'other'; expected one of full, local, topk"),
        ({"kind": "local"}, "a local span has window 0"),
        ({"kind": "local", "window": 1, "topk": 1}, "a local span has topk 1"),
        ({"kind": "local", "window": 1, "block": 0}, "block of a span is 0"),
        ({"kind": "local", "window": -1}, "window of a span is -1"),
        ({"kind": "topk"}, "a topk span has topk 0"),
        ({"kind": "full", "window": 1}, "it sees every key"),
    ],
)
def test_refuses_spans(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongConfig, match=message):
        Span(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": -2}, "attention of a layer is -2"),
        ({"heads": 1.5}, "heads of a layer is 1.5"),
        ({"spans": (3,)}, "a span of a layer is 3"),
        ({"spans": ((0, 0),)}, "number of heads of a span is 0"),
        ({"spans": ((4, -1),)}, "index of a span is -1"),
    ],
)
def test_refuses_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongConfig, match=message):
        LayerSpec(**fields)


@pytest.mark.parametrize(
    ("number", "spec", "message"),
    [
        (1, LayerSpec(attention=2), "layer 1 has attention 2; expected its own, or a layer below that has its own"),
        (2, LayerSpec(ffn=1), "layer 2 has ffn 1; expected its own, or a layer below that has its own"),
        (
            2,
            LayerSpec(attention=0, heads=6),
            "layer 2 has heads 6; expected 12, as in layer 0, whose attention it uses",
        ),
        (2, LayerSpec(ffn=0, d_ff=64), "layer 2 has d_ff 64; expected 1536, as in layer 0, whose ffn it uses"),
        (2, LayerSpec(kv_heads=5), "layer 2 has 12 heads; expected a multiple of kv_heads 5"),
        (
            2,
            LayerSpec(lora_rank=8),
            "layer 2 has lora_rank 8; expected at most d_model = 384, and a matrix that another",
        ),
        (2, LayerSpec(ffn=0, lora_rank=385), "layer 2 has lora_rank 385; expected at most d_model = 384"),
        (2, LayerSpec(spans=((12, 1),)), "expected indices below 1, and multiples of 1 heads"),
        (2, LayerSpec(spans=((3, 0), (9, 0)), kv_heads=6), "expected indices below 1, and multiples of 2 heads"),
        (2, LayerSpec(spans=((11, 0),)), "expected 12 heads in all"),
    ],
)
def test_refuses_layers_that_do_not_fit(number: int, spec: LayerSpec, message: str) -> None:
    layers = [LayerSpec(), LayerSpec(ffn=0), LayerSpec()]
    layers[number] = spec
    with pytest.raises(WrongConfig, match=message):
        replace(MINILM_L6, n_layers=3, spans=(LOCAL,), layers=tuple(layers))
