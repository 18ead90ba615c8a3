"""Imported encoders give the same vectors as the libraries that they are published for, and as their definition."""

import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from model.bert import load_encoder, read_tensors, state_of
from model.config import MINILM_L6
from model.errors import BadBlob, MissingWeight, WrongShape
from model.ragged import RaggedBatch
from model.source import encoder_folder
from model.strata import Strata
from model.tokenizer import TextTokenizer
from tests.model.published_encoder import KINDS, TEXTS, reference, write_encoder, write_json
from tests.model.small_encoder import SMALL, small_strata
from tests.required import imported

PUBLISHED_TEXTS = [
    "what is the weather in boston",
    "",
    "transfer fifty dollars to my savings account please",
    "hi",
    "My card was declined at the grocery store, and I do not know why! " * 9,
    "Gr\u00fc\u00dfe aus K\u00f6ln \u65e5\u672c \U0001f600",
]


def test_equals_the_published_output(minilm: tuple[Strata, TextTokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        # The libraries warn at import.
        warnings.simplefilter("ignore")
        sentence_transformers = imported("sentence_transformers")
        published = sentence_transformers.SentenceTransformer(str(encoder_folder("minilm-l6")), device="cpu")
        theirs_BD = torch.from_numpy(published.encode(PUBLISHED_TEXTS))
    strata, tokenizer = minilm
    ours_BD = strata(RaggedBatch.of(tokenizer.encode_many(PUBLISHED_TEXTS, max_tokens=published.max_seq_length)))
    assert (ours_BD - theirs_BD).abs().max() < 1e-4
    assert torch.nn.functional.cosine_similarity(ours_BD, theirs_BD).min() > 0.99999


def test_config_is_minilms(minilm: tuple[Strata, TextTokenizer]) -> None:
    assert minilm[0].config == MINILM_L6
    assert not minilm[0].training


def encode_texts(folder: Path) -> Tensor:
    """Returns the vectors of TEXTS as the publisher defines them, in full precision."""
    strata, tokenizer = load_encoder(str(folder))
    return strata.vectors(RaggedBatch.of(tokenizer.encode_many(TEXTS)))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("modules", [(), ("Normalize",)])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference(tmp_path: Path, kind: str, modules: tuple[str, ...], pooling: str) -> None:
    write_encoder(tmp_path, kind, pooling=pooling, modules=modules)
    rows = [reference(tmp_path, text) for text in TEXTS]
    expected_BD = torch.stack([row_SD[0] if pooling == "cls" else row_SD.mean(dim=0) for row_SD in rows])
    if modules:
        expected_BD = functional.normalize(expected_BD, dim=1)
    torch.testing.assert_close(encode_texts(tmp_path), expected_BD, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kind", "tokenizer_kind"), [*((kind, kind) for kind in KINDS), ("bert", "xlm-roberta")])
def test_a_prefix_is_put_before_each_text(tmp_path: Path, kind: str, tokenizer_kind: str) -> None:
    """multilingual-e5-small is a BERT with the tokenizer of XLM-R."""
    write_encoder(tmp_path, kind, tokenizer_kind=tokenizer_kind)
    prompts = {"prompts": {"query": "where: "}, "default_prompt_name": "query"}
    write_json(tmp_path / "config_sentence_transformers.json", prompts)
    expected_BD = torch.stack([reference(tmp_path, f"where: {text}").mean(dim=0) for text in TEXTS])
    found_BD = encode_texts(tmp_path)
    torch.testing.assert_close(found_BD, functional.normalize(expected_BD, dim=1), rtol=0, atol=1e-4)


def renamed(name: str) -> str:
    """Returns the name of a tensor in a RobertaForMaskedLM file that was converted from TensorFlow."""
    for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        name = name.replace(new, old)
    return f"roberta.{name}"


def test_names_of_other_exports(tmp_path: Path) -> None:
    path = write_encoder(tmp_path) / "model.safetensors"
    expected_BD = encode_texts(tmp_path)
    tensors = safetensors.torch.load_file(path)
    others = {renamed(name): tensor for name, tensor in tensors.items()} | {"lm_head.bias": torch.zeros(1)}
    safetensors.torch.save_file(others, path)
    assert torch.equal(encode_texts(tmp_path), expected_BD)


def test_half_precision_is_read(tmp_path: Path) -> None:
    path = write_encoder(tmp_path) / "model.safetensors"
    expected_BD = encode_texts(tmp_path)
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: tensor.half() for name, tensor in tensors.items()}, path)
    torch.testing.assert_close(encode_texts(tmp_path), expected_BD, rtol=0, atol=5e-3)


def test_missing_tensor_is_named() -> None:
    with pytest.raises(MissingWeight, match=r"embed\.word\.weight: the file has no embeddings\.word_embeddings"):
        state_of({}, small_strata())


def test_wrong_shape_is_named(minilm: tuple[Strata, TextTokenizer]) -> None:
    tensors = read_tensors(encoder_folder("minilm-l6") / "model.safetensors")
    with pytest.raises(WrongShape, match=r"embed\.word\.weight: \(30522, 384\) in the file; expected \(60, 64\)"):
        state_of(tensors, Strata(SMALL))


def test_refuses_what_is_no_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(BadBlob, match=r"model\.safetensors"):
        read_tensors(path)


def test_loading_twice_gives_the_same(minilm: tuple[Strata, TextTokenizer]) -> None:
    again, _ = load_encoder(str(encoder_folder("minilm-l6")))
    assert torch.equal(again.embed.word.weight, minilm[0].embed.word.weight)
