"""Texts to token ids."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import processors

from model.errors import BadTokens, EncoderNotFound, WrongConfig
from model.source import encoder_folder
from model.strata import Strata
from model.tokenizer import TextTokenizer
from tests.model.published_encoder import KINDS, make_tokenizer, write_encoder, write_json

CLS = 101
SEP = 102


@pytest.fixture(scope="module")
def tokenizer(minilm: tuple[Strata, TextTokenizer]) -> TextTokenizer:
    return minilm[1]


def test_known_text(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode_many(["Hello, world!"]) == [[CLS, 7592, 1010, 2088, 999, SEP]]


def test_empty_text_has_its_two_tokens(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode_many(["", "  \n"]) == [[CLS, SEP]] * 2


def test_no_texts(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode_many([]) == []


def test_truncation_keeps_the_closing_token(tokenizer: TextTokenizer) -> None:
    (whole,) = tokenizer.encode_many(["one two three four five"], max_tokens=256)
    (truncated,) = tokenizer.encode_many(["one two three four five"], max_tokens=4)
    assert truncated == [*whole[:3], SEP]


def test_lengths_differ_by_call_not_by_state(tokenizer: TextTokenizer) -> None:
    text = "word " * 400
    assert [len(tokenizer.encode_many([text], max_tokens=size)[0]) for size in (8, 300, 8)] == [8, 300, 8]
    assert len(tokenizer.encode_many([text])[0]) == 256


def test_too_short_a_limit_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(BadTokens, match="max_tokens is 2; expected more than 2"):
        tokenizer.encode_many(["x"], max_tokens=2)


def test_a_tokenizer_has_a_limit_of_its_own() -> None:
    short = TextTokenizer.from_encoder("minilm-l6", max_tokens=8)
    assert short.max_tokens == 8
    assert len(short.encode_many(["a " * 50])[0]) == 8
    assert len(short.encode_many(["a " * 50], max_tokens=12)[0]) == 12


def test_more_tokens_than_the_encoder_has_positions_are_refused_with_both_numbers() -> None:
    with pytest.raises(WrongConfig, match=r"max_tokens is 513, but the encoder in .* has 512 positions"):
        TextTokenizer.from_encoder("minilm-l6", max_tokens=513)


@pytest.mark.parametrize("kind", KINDS)
def test_by_default_the_encoder_limits_its_tokenizer(tmp_path: Path, kind: str) -> None:
    tokenizer = TextTokenizer.from_folder(write_encoder(tmp_path, kind))
    assert tokenizer.max_tokens == 48
    (ids,) = tokenizer.encode_many(["where " * 60])
    (whole,) = tokenizer.encode_many(["where " * 60], max_tokens=1_000)
    assert ids == [*whole[:47], whole[-1]]
    with pytest.raises(WrongConfig, match=r"max_tokens is 49, but the encoder in .* has 48 positions"):
        TextTokenizer.from_folder(tmp_path, max_tokens=49)


def test_the_prefix_is_a_part_of_texts_and_of_the_digest(tmp_path: Path) -> None:
    plain = TextTokenizer.from_folder(write_encoder(tmp_path))
    prompts = {"prompts": {"query": "where: "}, "default_prompt_name": "query"}
    write_json(tmp_path / "config_sentence_transformers.json", prompts)
    prefixed = TextTokenizer.from_folder(tmp_path)
    assert prefixed.encode_many(["is it"]) == plain.encode_many(["where: is it"])
    assert prefixed.digest != plain.digest


def test_a_tokenizer_of_another_encoder_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, vocab_size=9)
    with pytest.raises(WrongConfig, match=r"tokenizer\.json has \d+ tokens, but the encoder 9"):
        TextTokenizer.from_folder(tmp_path)


def test_a_tokenizer_that_frames_no_text_is_refused() -> None:
    bare = make_tokenizer("bert")
    bare.post_processor = processors.Sequence([])
    with pytest.raises(WrongConfig, match="puts 0 tokens around a text; expected an opening and a closing one"):
        TextTokenizer(bare.to_str().encode())


def test_lower_case_that_the_tokenizer_does_not_make_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "sentence_bert_config.json", {"do_lower_case": True})
    assert TextTokenizer.from_folder(write_encoder(tmp_path, "bert")).max_tokens == 48
    with pytest.raises(WrongConfig, match=r"do_lower_case, but tokenizer\.json does not lower texts"):
        TextTokenizer.from_folder(write_encoder(tmp_path, "roberta"))


def test_half_a_surrogate_pair(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode_many(["\ud800"]) == tokenizer.encode_many(["?"])


@given(st.lists(st.text(st.characters(), max_size=40), max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_framed(tokenizer: TextTokenizer, texts: list[str]) -> None:
    encoded = tokenizer.encode_many(texts, max_tokens=16)
    assert len(encoded) == len(texts)
    for ids in encoded:
        assert ids[0] == CLS
        assert ids[-1] == SEP
        assert len(ids) in range(2, 17)


def test_digest_is_of_the_file(tokenizer: TextTokenizer) -> None:
    content = (encoder_folder("minilm-l6") / "tokenizer.json").read_bytes()
    assert tokenizer.digest == hashlib.sha256(content).hexdigest()
    assert TextTokenizer.from_encoder("minilm-l6").digest == tokenizer.digest


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_refuses_what_is_no_tokenizer(content: bytes) -> None:
    with pytest.raises(EncoderNotFound, match=r"tokenizer\.json cannot be read"):
        TextTokenizer(content)
