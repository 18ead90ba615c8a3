"""The config: its canonical text, its hash, and the values that it refuses."""

import json
from dataclasses import replace

import pytest

from model.config import MINILM_L6, LayerSpec, Span, StrataConfig
from model.errors import WrongConfig

MINILM_JSON = (
    '{"d_ff":1536,"d_model":384,"family":"strata","head_features":2048,"label_capacity":256,"max_pos":512,'
    '"n_heads":12,"n_layers":6,"norm_eps":1e-12,"schema":1,"type_vocab":2,"vocab":30522}'
)


def test_canonical_json_is_this_text() -> None:
    assert MINILM_L6.canonical_json() == MINILM_JSON


def test_the_spec_of_minilm_is_this_one() -> None:
    """Running services compare the hash, so a new field must not change it."""
    digest = "086aa9cb484f6883ee2859d9a1d5e17b6ba6b461d63a7fe4384d8c7faa63ca10"
    assert MINILM_L6.spec_hash("t") == digest


def test_no_new_field_is_in_the_json_of_an_encoder_without_it() -> None:
    """A field that is later than the schema is left out if it has its default, so existing hashes stay."""
    later = ["norm", "norm_place", "norm_embedding", "norm_heads", "activation", "project", "rope_base", "layers"]
    given = {name: getattr(MINILM_L6, name) for name in later}
    assert replace(MINILM_L6, **given).canonical_json() == MINILM_JSON
    whole = tuple(MINILM_L6.layer(index) for index in range(MINILM_L6.n_layers))
    assert replace(MINILM_L6, layers=whole).canonical_json() == MINILM_JSON


LOCAL = Span(kind="local", window=64, sinks=4)
TOPK = Span(kind="topk", window=32, topk=8, dense_below=512)
SHARED = replace(
    MINILM_L6,
    n_layers=3,
    layers=(LayerSpec(lora_rank=8), LayerSpec(attention=0, ffn=0, lora_rank=16), LayerSpec(heads=6, kv_heads=2)),
    embed_dim=128,
)


@pytest.mark.parametrize(
    "config",
    [
        replace(MINILM_L6, n_layers=3, norm_eps=1e-5),
        replace(MINILM_L6, n_heads=5, head_width=48),
        replace(MINILM_L6, positions="rope", rope_base=160000.0, max_pos=8192),
        replace(MINILM_L6, first_position=2, max_pos=514, pooling="cls", normalize=False, prefix="query: "),
        replace(MINILM_L6, spans=(LOCAL, TOPK), layers=(LayerSpec(spans=((8, 0), (4, 1))),) * 6),
        SHARED,
        replace(MINILM_L6, positions="rope", layers=(LayerSpec(rope_base=160000.0),) * 6, norm_place="pre", norm="rms"),
        replace(
            MINILM_L6, norm_place="sandwich", norm_embedding=False, norm_heads=True, activation="swiglu", project=True
        ),
    ],
)
def test_json_round_trip(config: StrataConfig) -> None:
    assert StrataConfig.from_json(config.canonical_json()) == config


@pytest.mark.parametrize(
    "config",
    [
        replace(MINILM_L6, head_width=32, embed_dim=384),
        replace(MINILM_L6, layers=(LayerSpec(),) * 6),
        replace(
            MINILM_L6, layers=tuple(LayerSpec(attention=i, ffn=i, heads=12, kv_heads=12, d_ff=1536) for i in range(6))
        ),
    ],
)
def test_one_shape_has_one_json(config: StrataConfig) -> None:
    assert config.canonical_json() == MINILM_JSON
    assert config.without_labels == MINILM_L6.without_labels


def test_a_layer_has_every_size() -> None:
    first, tied, narrow = (SHARED.layer(index) for index in range(3))
    assert (first.attention, first.heads, first.kv_heads, first.d_ff) == (0, 12, 12, 1536)
    assert (tied.attention, tied.ffn, tied.lora_rank) == (0, 0, 16)
    assert (narrow.attention, narrow.heads, narrow.kv_heads) == (2, 6, 2)


def test_a_text_cannot_use_the_positions_before_the_first() -> None:
    assert MINILM_L6.max_sequence == 512
    assert replace(MINILM_L6, first_position=2).max_sequence == 510


def test_spec_hash_covers_config_and_tokenizer() -> None:
    hashes = {MINILM_L6.spec_hash("a"), MINILM_L6.spec_hash("b"), replace(MINILM_L6, n_layers=5).spec_hash("a")}
    assert len(hashes) == 3
    assert StrataConfig.from_json(MINILM_JSON).spec_hash("a") in hashes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2 of family 'strata'"),
        ({"family": "other"}, "family 'other'"),
        ({"d_ff": 0}, "d_ff is 0"),
        ({"vocab": 1.5}, "vocab is 1.5"),
        ({"n_layers": True}, "n_layers is True"),
        ({"max_pos": 1 << 24}, "max_pos is 16777216"),
        ({"norm_eps": 0.0}, "norm_eps is 0.0"),
        ({"norm_eps": "x"}, "norm_eps is 'x'"),
        ({"n_heads": 7}, "expected a multiple of n_heads = 7"),
        ({"head_width": -1}, "head_width is -1"),
        ({"positions": "alibi"}, "positions is 'alibi'; expected one of learned, rope"),
        ({"pooling": ["cls"]}, r"pooling is \['cls'\]"),
        ({"normalize": 1}, "normalize is 1"),
        ({"prefix": 5}, "prefix is 5"),
        ({"rope_base": 2}, "rope_base is 2"),
        ({"layers": [{"rope_base": []}] * 6}, r"rope_base is \[\]"),
        ({"norm": "batch"}, "norm is 'batch'; expected one of layer, rms"),
        ({"norm_place": "none"}, "norm_place is 'none'; expected one of post, pre, sandwich"),
        ({"norm_embedding": False}, "norm_embedding is false; expected true with norms after each part"),
        ({"norm_heads": 1}, "norm_heads is 1"),
        ({"activation": "relu"}, "activation is 'relu'; expected one of gelu, geglu"),
        ({"project": "yes"}, "project is 'yes'"),
        ({"first_position": 512}, "expected less than max_pos = 512"),
        ({"positions": "rope", "first_position": 2}, "first_position is 2 and a head 32 wide"),
        ({"layers": [{}]}, "layers has 1 records"),
        ({"layers": 5}, "layers is 5; expected a list of records"),
        ({"layers": [{"depth": 1}]}, "expected a list of records with some of"),
        ({"layers": [{"spans": [3]}]}, "a span of a layer is 3"),
        ({"spans": [{}]}, "expected its kind"),
    ],
)
def test_refuses_values(change: dict[str, object], message: str) -> None:
    with pytest.raises(WrongConfig, match=message):
        StrataConfig.from_json(json.dumps(json.loads(MINILM_JSON) | change))


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", MINILM_JSON[:-1] + ',"rope":1}', MINILM_JSON[:-1]])
def test_refuses_text(text: str) -> None:
    with pytest.raises(WrongConfig):
        StrataConfig.from_json(text)
