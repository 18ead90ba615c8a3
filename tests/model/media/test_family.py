"""The family `media`: folders that it claims, the reading of texts, and errors of damaged folders."""

from pathlib import Path

import pytest

from model.encoders import FAMILIES, open_encoder
from model.errors import BadBlob, EncoderNotFound, WrongConfig, WrongShape
from model.media.family import MEDIA, stems_in_use, word_ids
from tests.model.media.small import opened, write_small


def test_a_folder_with_its_config_is_claimed(tmp_path: Path) -> None:
    assert FAMILIES.claiming(write_small(tmp_path)) is MEDIA
    for other in ("minilm-l6", "digits:Encoder", str(tmp_path / "none")):
        assert not MEDIA.claims(other)


def test_the_stems_of_the_opened_encoder_are_in_use(tmp_path: Path) -> None:
    _, inputs = opened(tmp_path)
    stems = stems_in_use()
    assert stems is inputs.stems and stems is not None
    assert len(stems.digest) == 64


@pytest.mark.parametrize("text", ["", "seven", "Seven, please!", "\ud800 ünïcode", "x " * 500])
def test_any_text_is_read(tmp_path: Path, text: str) -> None:
    _, inputs = opened(tmp_path)
    (ids,) = inputs.encode_many([text])
    assert ids[0] == 0 and all(0 < each < 64 for each in ids[1:]) and len(ids) <= inputs.max_tokens
    assert inputs.encode_many([text], max_tokens=2)[0] == ids[:2]


def test_words_count_and_case_does_not() -> None:
    assert word_ids("The digit 7!", 2_048) == word_ids("the DIGIT  7 !", 2_048)
    assert word_ids("seven", 2_048) != word_ids("four", 2_048)


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    encoder = write_small(tmp_path)
    with pytest.raises(WrongConfig, match="max_tokens is 129; expected 2 to 128"):
        open_encoder(encoder, max_tokens=129)
    weights = (tmp_path / "encoder.safetensors").read_bytes()
    (tmp_path / "encoder.safetensors").write_bytes((tmp_path / "stems.safetensors").read_bytes())
    with pytest.raises(WrongShape, match=r"does not fit config\.json"):
        open_encoder(encoder)
    (tmp_path / "encoder.safetensors").write_bytes(weights[:-9])
    with pytest.raises(BadBlob, match=r"encoder\.safetensors cannot be read"):
        open_encoder(encoder)
    (tmp_path / "stems.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadBlob, match=r"stems\.safetensors cannot be read"):
        open_encoder(encoder)
    (tmp_path / "stems.safetensors").unlink()
    with pytest.raises(EncoderNotFound, match="lifelong encoder train"):
        open_encoder(encoder)
