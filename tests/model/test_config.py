"""The config: canonical text, hash, and what it refuses."""

import json
from dataclasses import replace

import pytest

from model.config import MINILM_L6, StrataConfig
from model.errors import WrongConfig

MINILM_JSON = (
    '{"d_ff":1536,"d_model":384,"family":"strata","head_features":2048,"label_capacity":256,"max_pos":512,'
    '"n_heads":12,"n_layers":6,"norm_eps":1e-12,"schema":1,"type_vocab":2,"vocab":30522}'
)


def test_canonical_json_is_this_text() -> None:
    assert MINILM_L6.canonical_json() == MINILM_JSON


def test_json_round_trip() -> None:
    config = replace(MINILM_L6, n_layers=3, norm_eps=1e-5)
    assert StrataConfig.from_json(config.canonical_json()) == config


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
    ],
)
def test_refuses_values(change: dict[str, object], message: str) -> None:
    with pytest.raises(WrongConfig, match=message):
        StrataConfig.from_json(json.dumps(json.loads(MINILM_JSON) | change))


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", MINILM_JSON[:-1] + ',"rope":1}', MINILM_JSON[:-1]])
def test_refuses_text(text: str) -> None:
    with pytest.raises(WrongConfig):
        StrataConfig.from_json(text)
