"""The config files of an encoder's folder are read, or refused with a message that names the file and the fix."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import WrongConfig
from model.published import read_published
from model.source import encoder_folder
from tests.model.published_encoder import INNER, KINDS, LAYERS, WIDTH, write_encoder, write_json, write_modules

PROMPTS = "config_sentence_transformers.json"
LIMITS = "sentence_bert_config.json"


def test_minilm() -> None:
    published = read_published(encoder_folder("minilm-l6"))
    assert (published.config.pooling, published.config.normalize, published.config.prefix) == ("mean", True, "")
    assert (published.max_tokens, published.config.max_sequence) == (256, 512)


@pytest.mark.parametrize("kind", KINDS)
def test_shape_and_positions(tmp_path: Path, kind: str) -> None:
    config = read_published(write_encoder(tmp_path, kind)).config
    assert (config.d_model, config.n_layers, config.d_ff) == (WIDTH, LAYERS, INNER)
    assert config.first_position == (0 if kind == "bert" else 2)
    assert config.max_sequence == 48


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "relu"}, r"config\.json has \{'hidden_act': 'relu'\}"),
        ({"model_type": "mpnet"}, r"model_type is 'mpnet'; expected one of bert, roberta, xlm-roberta, camembert"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, r"\{'is_decoder': True\}"),
        ({"num_attention_heads": 5}, "d_model is 64; expected a multiple of n_heads = 5"),
        ({"model_type": "roberta", "pad_token_id": None}, "pad_token_id is None; expected the index"),
        ({"model_type": "roberta", "pad_token_id": 47}, "first_position is 48; expected less than max_pos = 48"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    write_encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", config | fields)
    with pytest.raises(WrongConfig, match=message):
        read_published(tmp_path)


@pytest.mark.parametrize("text", ["", "{", json.dumps({"model_type": "bert"})])
def test_what_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    (write_encoder(tmp_path) / "config.json").write_text(text)
    with pytest.raises(WrongConfig, match=r"config\.json"):
        read_published(tmp_path)


@pytest.mark.parametrize(
    ("flags", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "word_embedding_dimension": 64}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "include_prompt": True}, "cls"),
    ],
)
def test_pooling_is_read_as_every_release_wrote_it(tmp_path: Path, flags: dict[str, Any], pooling: str) -> None:
    write_json(write_encoder(tmp_path) / "1_Pooling" / "config.json", flags)
    assert read_published(tmp_path).config.pooling == pooling


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"pooling_mode": "max"}, "the pooling is max; expected mean or cls"),
        ({"pooling_mode_max_tokens": True}, "the pooling is max; expected mean or cls"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "the pooling is mean_sqrt_len; expected mean or cls"),
        ({"pooling_mode_lasttoken": True}, "the pooling is lasttoken; expected mean or cls"),
        ({"pooling_mode": ["cls", "mean"]}, r"the pooling is cls \+ mean; expected mean or cls"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, r"the pooling is mean \+ cls; expected"),
        ({}, "the pooling is not given; expected mean or cls"),
        ({"pooling_mode": 3}, r"1_Pooling/config\.json cannot be read: Expected `str | array`"),
    ],
)
def test_other_poolings_are_refused(tmp_path: Path, flags: dict[str, Any], message: str) -> None:
    write_json(write_encoder(tmp_path) / "1_Pooling" / "config.json", flags)
    with pytest.raises(WrongConfig, match=message):
        read_published(tmp_path)


def test_a_folder_that_does_not_say_its_pooling_is_refused_with_what_to_write(tmp_path: Path) -> None:
    (write_encoder(tmp_path) / "1_Pooling" / "config.json").unlink()
    with pytest.raises(WrongConfig, match=r"1_Pooling/config\.json is missing: copy it from"):
        read_published(tmp_path)
    (tmp_path / "modules.json").unlink()
    with pytest.raises(WrongConfig, match=r"modules\.json is missing, and nothing else says") as refused:
        read_published(tmp_path)
    text = str(refused.value)
    (tmp_path / "modules.json").write_text(text[text.index("[{") : text.index("}]") + 2])
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    assert read_published(tmp_path).config.pooling == "mean"


@pytest.mark.parametrize("modules", [("LSTM",), ("Normalize", "Dense"), ("Normalize", "Normalize2")])
def test_other_modules_are_refused(tmp_path: Path, modules: tuple[str, ...]) -> None:
    write_modules(write_encoder(tmp_path), modules=modules)
    with pytest.raises(WrongConfig, match=f"the modules are Transformer, Pooling, {', '.join(modules)}; expected"):
        read_published(tmp_path)


def test_files_in_a_folder_of_their_own_are_refused(tmp_path: Path) -> None:
    modules = [{"path": "0_BERT", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]
    write_json(write_encoder(tmp_path) / "modules.json", modules)
    with pytest.raises(WrongConfig, match="a Transformer with its files in the same folder"):
        read_published(tmp_path)


@pytest.mark.parametrize(
    ("file", "prefix"),
    [
        ({"__version__": {}}, ""),
        ({"prompts": None}, ""),
        ({"prompts": {"query": "", "document": ""}, "default_prompt_name": None}, ""),
        ({"prompts": {"query": "query: ", "none": ""}, "default_prompt_name": "query"}, "query: "),
        ({"prompts": {"query": "query: ", "none": ""}, "default_prompt_name": "none"}, ""),
    ],
)
def test_the_default_prompt_is_the_prefix(tmp_path: Path, file: dict[str, Any], prefix: str) -> None:
    write_json(write_encoder(tmp_path) / PROMPTS, file)
    published = read_published(tmp_path)
    assert published.config.prefix == prefix
    assert published.prompts == (file.get("prompts") or {})


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"prompts": {"query": "query: "}}, r"prompts \(query\), and none is the default\. Write the name"),
        ({"prompts": {"a": ""}, "default_prompt_name": "b"}, "default_prompt_name is 'b', which is not in prompts"),
        ({"prompts": {"a": 3}}, "cannot be read: Expected `str`"),
        ({"prompts": {"a": "x" * 2_000}, "default_prompt_name": "a"}, "expected a text of at most"),
    ],
)
def test_prompts_that_leave_a_choice_are_refused(tmp_path: Path, file: dict[str, Any], message: str) -> None:
    write_json(write_encoder(tmp_path) / PROMPTS, file)
    with pytest.raises(WrongConfig, match=message):
        read_published(tmp_path)


def test_a_mean_without_the_prompt_is_refused(tmp_path: Path) -> None:
    write_json(write_encoder(tmp_path) / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    assert read_published(tmp_path).config.prefix == ""
    write_json(tmp_path / PROMPTS, {"prompts": {"query": "query: "}, "default_prompt_name": "query"})
    with pytest.raises(WrongConfig, match="the mean leaves out the prompt"):
        read_published(tmp_path)


def test_the_longest_text_is_that_of_the_publisher_but_never_more_than_the_positions(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    assert read_published(tmp_path).max_tokens == 48
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 10**30})
    assert read_published(tmp_path).max_tokens == 48
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 40})
    assert read_published(tmp_path).max_tokens == 40
    write_json(tmp_path / LIMITS, {"max_seq_length": 32, "do_lower_case": False})
    assert read_published(tmp_path).max_tokens == 32
