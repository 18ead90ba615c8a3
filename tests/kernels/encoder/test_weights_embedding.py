"""Words of 4 bits, and embeddings that do not fit."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.encoder import BlockShape, EncoderKernel, NormWeights, RotaryWeights
from kernels.linear_i4.reference import high_plane
from tests.kernels.encoder.blocks import GENERATOR, POSITIONS, WORDS, block, embedding, packed, sequences

WIDTH = 32
SHAPE = BlockShape(heads=2, kv_heads=1, head_width=16, inner=48)
EMBEDDING = embedding(WIDTH)
BLOCK = block(WIDTH, SHAPE)


def test_words_of_4_bits_are_those_of_8_bits_that_they_stand_for(isa: str) -> None:
    nibbles_VJ = torch.randint(0, 256, (WORDS, 64), dtype=torch.uint8, generator=GENERATOR)
    multiplier_VG = torch.randint(1, 17, (WORDS, 2), dtype=torch.uint8, generator=GENERATOR)
    narrow = replace(embedding(128), word_VE=nibbles_VJ, multiplier_VG=multiplier_VG)
    wide = replace(narrow, word_VE=high_plane(nibbles_VJ, multiplier_VG), multiplier_VG=None)
    blocks = [block(128, SHAPE)]
    ids_T, offsets = sequences([POSITIONS, 3])
    for expand in (None, packed(128, 128)):
        found, expected = (
            EncoderKernel(replace(each, expand=expand), blocks).tokens(ids_T, offsets, layers=0, isa=isa)
            for each in (narrow, wide)
        )
        assert torch.equal(found, expected)
    assert torch.equal(narrow.integers(ids_T), wide.integers(ids_T))
    assert narrow.word_width == wide.word_width == 128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_V": torch.ones(WORDS + 1)}, "scale_V is"),
        ({"word_VE": EMBEDDING.word_VE.float()}, "word_VE is torch.float32"),
        ({"multiplier_VG": torch.ones(WORDS, 1)}, "word_VE is torch.int8.*torch.uint8"),
        ({"position_PD": torch.ones(POSITIONS, WIDTH * 2)[:, ::2]}, "position_PD is .*expected dense"),
        ({"norm": NormWeights(torch.ones(WIDTH), torch.ones(1), 1e-6)}, "norm.bias_D is"),
        ({"norm": NormWeights(torch.ones(16), torch.ones(16), 1e-6)}, "norm.gain_D is"),
        ({"expand": packed(WIDTH, 48)}, "expand is packed as"),
    ],
)
def test_refuses_embeddings_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderKernel(replace(EMBEDDING, **change), [BLOCK])


@pytest.mark.parametrize(
    ("rotary", "message"),
    [
        (RotaryWeights(torch.ones(9, 8), torch.ones(8, 8)), "sin_PC is"),
        (RotaryWeights(torch.ones(9, 16), torch.ones(9, 16)), r"cos_PC is .*\[9, 8\]"),
    ],
)
def test_refuses_rotations_that_do_not_fit(rotary: RotaryWeights, message: str) -> None:
    one_row = replace(EMBEDDING, position_PD=torch.ones(1, WIDTH))
    with pytest.raises(ValueError, match=message):
        EncoderKernel(one_row, [replace(BLOCK, rotary=rotary)])


def test_refuses_positions_beside_rotations() -> None:
    rotary = RotaryWeights(torch.ones(9, 8), torch.ones(9, 8))
    with pytest.raises(ValueError, match="position_PD has 20 rows; expected 1"):
        EncoderKernel(EMBEDDING, [replace(BLOCK, rotary=rotary)])
