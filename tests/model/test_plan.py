"""The plan: the tensors of a model, and which of them its layers share."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import MINILM_L6, OWN, LayerSpec, Span, StrataConfig
from model.plan import MatrixPlan, build_plan, layer_index, names_at_or_above

LAYERS = 5


@st.composite
def configs(draw: st.DrawFn) -> StrataConfig:
    """Draws configs whose layers use the matrices of lower layers, in any pattern."""
    layers: list[LayerSpec] = []
    for index in range(LAYERS):
        attention = [OWN, *(place for place in range(index) if layers[place].attention == OWN)]
        ffn = [OWN, *(place for place in range(index) if layers[place].ffn == OWN)]
        layers.append(LayerSpec(attention=draw(st.sampled_from(attention)), ffn=draw(st.sampled_from(ffn))))
    used = [*(layer.attention for layer in layers), *(layer.ffn for layer in layers)]
    rank = draw(st.integers(0, 64))
    ranked: list[LayerSpec] = []
    for index, layer in enumerate(layers):
        is_shared = index in used or {layer.attention, layer.ffn} != {OWN}
        ranked.append(replace(layer, lora_rank=rank if is_shared else 0))
    return StrataConfig(vocab=9, d_model=64, n_layers=LAYERS, n_heads=4, d_ff=128, layers=tuple(ranked))


def test_minilm_is_the_plain_case() -> None:
    plan = build_plan(MINILM_L6)
    block = plan.blocks[5]
    shapes = {matrix.name: (matrix.rows, matrix.columns) for matrix in block.matrices}
    assert shapes == {
        "layers.5.qkv": (1152, 384),
        "layers.5.out": (384, 384),
        "layers.5.up": (1536, 384),
        "layers.5.down": (384, 1536),
    }
    assert (block.heads, block.kv_heads, block.head_width, block.inner) == (12, 12, 32, 1536)
    assert [(count, span.kind) for count, span in block.spans] == [(12, "full")]
    assert plan.embedding.position == "embed.position"
    assert plan.embedding.expand is None
    assert len(plan.banks) == len(plan.matrices) == 24


def test_sizes_of_a_layer() -> None:
    spans = (Span(kind="local", window=4), Span(kind="topk", topk=2))
    spec = LayerSpec(heads=6, kv_heads=2, d_ff=192, spans=((3, 1), (3, 0)))
    config = replace(MINILM_L6, n_layers=1, layers=(spec,), spans=spans, embed_dim=96, positions="rope", head_width=16)
    plan = build_plan(config)
    (block,) = plan.blocks
    assert (block.qkv.rows, block.qkv.columns) == (6 * 16 + 2 * 2 * 16, 384)
    assert (block.out.rows, block.out.columns, block.out.scheme) == (384, 96, "w8c")
    assert (block.up.rows, block.down.columns, block.down.scheme) == (192, 192, "n8g64")
    assert [(count, span.kind) for count, span in block.spans] == [(3, "topk"), (3, "local")]
    assert plan.embedding.position is None
    assert plan.embedding.expand is not None
    assert (plan.embedding.expand.rows, plan.embedding.expand.columns) == (384, 96)


@given(configs())
def test_a_tied_matrix_is_named_after_its_lowest_layer(config: StrataConfig) -> None:
    plan = build_plan(config)
    for matrix in plan.matrices:
        users = [each for each in plan.matrices if each.name == matrix.name]
        assert matrix.name == users[0].path
        assert [each.is_first for each in users] == [True] + [False] * (len(users) - 1)
        assert {(each.rows, each.columns, each.scheme) for each in users} == {
            (matrix.rows, matrix.columns, matrix.scheme)
        }
        assert matrix.lora_rank == (config.layer(layer_index(matrix.path)).lora_rank if len(users) > 1 else 0)


@given(configs(), st.integers(0, LAYERS))
def test_what_belongs_to_the_top_is_read_by_no_layer_below(config: StrataConfig, layer: int) -> None:
    plan = build_plan(config)
    top = names_at_or_above((matrix.name for matrix in plan.matrices), layer)
    below = {matrix.name for matrix in plan.matrices if layer_index(matrix.path) < layer}
    assert not below & set(top)


def test_the_pair_of_a_shared_matrix() -> None:
    matrix = MatrixPlan(
        name="layers.0.up",
        path="layers.2.up",
        rows=128,
        columns=64,
        bias=True,
        in_scale=True,
        lora_rank=8,
        scheme="n8g64",
    )
    assert matrix.lora == {"layers.2.up.lora_a": (8, 64), "layers.2.up.lora_b": (128, 8)}
    assert replace(matrix, lora_rank=0).lora == {}


@pytest.mark.parametrize("name", ["embed.word", "head.out"])
def test_what_is_in_no_layer_is_below_all(name: str) -> None:
    assert layer_index(name) == -1
    assert names_at_or_above([name, "layers.0.qkv", "layers.1.qkv"], 1) == ["layers.1.qkv"]
