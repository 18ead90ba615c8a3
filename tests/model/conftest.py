"""The real encoder, loaded once."""

import pytest

from model.bert import load_encoder
from model.quantized import QuantizedEncoder
from model.strata import Strata
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors


@pytest.fixture(scope="session")
def minilm() -> tuple[Strata, TextTokenizer]:
    strata, tokenizer = load_encoder("minilm-l6")
    return strata.requires_grad_(False), tokenizer


@pytest.fixture(scope="session")
def quantized_minilm(minilm: tuple[Strata, TextTokenizer]) -> QuantizedEncoder:
    strata, _ = minilm
    return QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
