"""What the matrices see over the built-in texts."""

from functools import partial

import pytest
import torch

from model.calibration import TEXTS, grams
from model.quantized import QuantizedEncoder
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors

Minilm = tuple[Strata, TextTokenizer]


@pytest.fixture(scope="module")
def found(minilm: Minilm) -> dict[str, torch.Tensor]:
    return grams(*minilm, num_layers=6)


def test_every_matrix_is_seen(found: dict[str, torch.Tensor]) -> None:
    parts = {"qkv": 384, "out": 384, "up": 384, "down": 1536}
    shapes = {f"layers.{layer}.{part}": (width, width) for layer in range(6) for part, width in parts.items()}
    assert {name: tuple(gram_KK.shape) for name, gram_KK in found.items()} == shapes


def test_a_gram_matrix_is_one(found: dict[str, torch.Tensor]) -> None:
    gram_KK = found["layers.3.up"]
    assert torch.allclose(gram_KK, gram_KK.t(), rtol=1e-3, atol=1e-4)
    assert torch.linalg.eigvalsh(gram_KK.double()).min() > -1e-4 * gram_KK.diagonal().max()


def test_only_the_layers_asked_for(minilm: Minilm) -> None:
    assert {name.split(".")[1] for name in grams(*minilm, num_layers=2)} == {"0", "1"}
    assert grams(*minilm, num_layers=0) == {}


def test_other_texts_are_nearer_to_full_precision(minilm: Minilm, found: dict[str, torch.Tensor]) -> None:
    strata, tokenizer = minilm
    token_ids = tokenizer.encode_many([f"{first}, {second}" for first, second in zip(TEXTS, TEXTS[7:], strict=False)])
    full_BD = encode_many(strata, token_ids, batch_size=64)
    cosines = []
    for tensors in (encoder_tensors(strata, grams=found), encoder_tensors(strata)):
        encoder = QuantizedEncoder.from_tensors(strata.config, tensors)
        for precision in ("int8", "int4"):
            encode = partial(encoder.encode, precision=precision)
            z_BD = encode_many(encode, token_ids, batch_size=64)
            cosines.append(float((z_BD * full_BD).sum(dim=1).mean()))
    (int8, int4), (nearest8, nearest4) = cosines[:2], cosines[2:]
    assert 1 - int8 < 0.95 * (1 - nearest8) and 1 - int4 < 0.8 * (1 - nearest4)
