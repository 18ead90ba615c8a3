"""Plain encoders as published files."""

import dataclasses
from pathlib import Path

import pytest
from torch import Tensor

from lifelong.compress.plain import write_published
from lifelong.compress.share import share
from model.bert import load_encoder
from model.config import StrataConfig
from model.errors import WrongConfig
from tests.lifelong.compress.members import DENSE, dense_strata, vectors
from tests.services.members.small import tokenizer_json


@pytest.mark.parametrize(
    "config",
    [
        DENSE,
        dataclasses.replace(DENSE, pooling="cls", normalize=False, prefix="query: "),
        dataclasses.replace(DENSE, first_position=2),
    ],
)
def test_a_published_encoder_is_read_back(tmp_path: Path, config: StrataConfig) -> None:
    strata = dense_strata(config)
    write_published(tmp_path / "out", strata, tokenizer_json(), max_tokens=20)
    again, tokenizer = load_encoder(str(tmp_path / "out"))
    assert again.config == config
    assert tokenizer.max_tokens == 20
    difference: Tensor = vectors(strata) - vectors(again)
    assert float(difference.abs().max()) < 1e-5


def test_tied_layers_cannot_be_published(tmp_path: Path) -> None:
    with pytest.raises(WrongConfig, match="share no matrices"):
        write_published(tmp_path / "out", share(dense_strata(), (0, 0, 2, 2), (0, 0, 2, 2)), b"", max_tokens=8)
