"""The imported encoder against the output of the libraries with which it was published."""

import json
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch

from model.bert import load_encoder, read_config, read_tensors, state_of
from model.config import MINILM_L6
from model.errors import BadBlob, MissingWeight, WrongConfig, WrongShape
from model.ragged import RaggedBatch
from model.source import encoder_folder
from model.strata import Strata
from model.tokenizer import TextTokenizer
from tests.model.small_encoder import SMALL, small_strata

TEXTS = [
    "what is the weather in boston",
    "",
    "transfer fifty dollars to my savings account please",
    "hi",
    "My card was declined at the grocery store, and I do not know why! " * 9,
    "Gr\u00fc\u00dfe aus K\u00f6ln \u65e5\u672c \U0001f600",
]

BERT_CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": 60,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 80,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def test_equals_the_published_output(minilm: tuple[Strata, TextTokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import
        sentence_transformers = pytest.importorskip("sentence_transformers")
        published = sentence_transformers.SentenceTransformer(str(encoder_folder("minilm-l6")), device="cpu")
        theirs_BD = torch.from_numpy(published.encode(TEXTS))
    strata, tokenizer = minilm
    ours_BD = strata(RaggedBatch.of(tokenizer.encode_many(TEXTS, max_tokens=published.max_seq_length)))
    assert (ours_BD - theirs_BD).abs().max() < 1e-4
    assert torch.nn.functional.cosine_similarity(ours_BD, theirs_BD).min() > 0.99999


def test_config_is_minilms(minilm: tuple[Strata, TextTokenizer]) -> None:
    assert minilm[0].config == MINILM_L6
    assert not minilm[0].training


def test_reads_a_config() -> None:
    found = read_config(json.dumps(BERT_CONFIG))
    assert (found.vocab, found.d_model, found.n_layers, found.n_heads, found.d_ff) == (60, 64, 2, 4, 128)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, r"\{'hidden_act': 'relu'\}"),
        ({"model_type": "t5"}, r"\{'model_type': 't5'\}"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"num_attention_heads": 5}, "d_model is 64; expected a multiple of n_heads = 5"),
    ],
)
def test_refuses_other_models(change: dict[str, object], message: str) -> None:
    with pytest.raises(WrongConfig, match=message):
        read_config(json.dumps(BERT_CONFIG | change))


@pytest.mark.parametrize("text", ["", "{", json.dumps({"model_type": "bert"})])
def test_refuses_what_is_no_config(text: str) -> None:
    with pytest.raises(WrongConfig):
        read_config(text)


def test_missing_tensor_is_named() -> None:
    with pytest.raises(MissingWeight, match=r"embed\.word\.weight: the file has no embeddings\.word_embeddings"):
        state_of({}, small_strata())


def test_wrong_shape_is_named(minilm: tuple[Strata, TextTokenizer]) -> None:
    tensors = read_tensors(encoder_folder("minilm-l6") / "model.safetensors")
    with pytest.raises(WrongShape, match=r"embed\.word\.weight: \(30522, 384\) in the file; expected \(60, 64\)"):
        state_of(tensors, Strata(SMALL))


def test_prefix_of_other_exports(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"bert.embeddings.x": torch.zeros(1)}, path)
    assert list(read_tensors(path)) == ["embeddings.x"]
    path.write_bytes(b"not safetensors")
    with pytest.raises(BadBlob, match=r"model\.safetensors"):
        read_tensors(path)


def test_loading_twice_gives_the_same(minilm: tuple[Strata, TextTokenizer]) -> None:
    again, _ = load_encoder(str(encoder_folder("minilm-l6")))
    assert torch.equal(again.embed.word.weight, minilm[0].embed.word.weight)
