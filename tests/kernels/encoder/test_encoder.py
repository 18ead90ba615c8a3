"""The boundary of the native encoder: it refuses wrong arguments by name, and no argument crashes it."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import native
from kernels.encoder import BlockWeights, EmbeddingWeights, Encoder, NormWeights, why_not
from kernels.linear_i4 import native as linear_i4
from kernels.linear_i4.reference import Int4Weight as Weight4
from kernels.linear_i8.native import pack_weight
from kernels.linear_i8.reference import Int8Weight
from tests.kernels import tolerances

WIDTH = 32
INNER = 48
HEADS = 2
ROWS = 11
POSITIONS = 20
GENERATOR = torch.Generator().manual_seed(0)


def norm(width: int = WIDTH) -> NormWeights:
    return NormWeights(torch.ones(width), torch.zeros(width), 1e-6, torch.rand(width, generator=GENERATOR) + 0.5)


def packed(num_out: int, num_in: int) -> Tensor:
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=GENERATOR)
    return pack_weight(Int8Weight.of(q_NK, torch.full((num_out,), 0.002), None))


def packed_i4(num_out: int, num_in: int) -> Tensor:
    hi_NJ = torch.randint(0, 256, (num_out, num_in // 2), dtype=torch.uint8, generator=GENERATOR)
    m_NG = torch.randint(1, 17, (num_out, num_in // 64), dtype=torch.uint8, generator=GENERATOR)
    return linear_i4.pack_weight(Weight4(hi_NJ, m_NG, torch.full((num_out,), 0.002), None))


def block(width: int = WIDTH, inner: int = INNER, pack: Callable[[int, int], Tensor] = packed) -> BlockWeights:
    return BlockWeights(
        qkv=pack(3 * width, width),
        out=pack(width, width),
        norm1=norm(width),
        up=pack(inner, width),
        down=pack(width, inner),
        norm2=norm(width),
    )


def embedding(width: int = WIDTH) -> EmbeddingWeights:
    return EmbeddingWeights(
        torch.randint(-127, 128, (ROWS, width), dtype=torch.int8, generator=GENERATOR),
        torch.full((ROWS,), 0.01),
        torch.randn(POSITIONS, width, generator=GENERATOR),
        norm(width),
    )


EMBEDDING = embedding()
BLOCKS = [block(), block()]
ENCODER = Encoder(EMBEDDING, BLOCKS, num_heads=HEADS, inner=INNER)


def whole_tiles(pack: Callable[[int, int], Tensor]) -> Encoder:
    words = embedding(64)
    blocks = [block(64, 128, pack), block(64, 128, pack)]
    return Encoder(words, blocks, num_heads=HEADS, inner=128)


WHOLE_TILES = [whole_tiles(packed), whole_tiles(packed_i4)]
"""Encoders whose matrices are whole numbers of tiles, in INT8 and in INT4."""


@given(
    st.lists(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=POSITIONS), min_size=1, max_size=40),
    st.integers(1, 4),
    st.sampled_from([isa for isa in native.ISAS if not native.why_not(isa)]),
    st.sampled_from([ENCODER, *WHOLE_TILES]),
)
@settings(max_examples=100)
def test_a_sequence_gets_the_same_bits_in_any_batch(
    ids: list[list[int]], threads: int, isa: str, encoder: Encoder
) -> None:
    offsets = [0, *itertools.accumulate(map(len, ids))]
    ids_T = torch.tensor(list(itertools.chain.from_iterable(ids)))
    together = encoder.encode(ids_T, offsets, threads=threads, isa=isa)
    norm_B = together.double().norm(dim=1)
    width = together.shape[1]
    tolerances.assert_within(norm_B, torch.ones_like(norm_B), torch.tensor(tolerances.gamma(width + 3)))
    for index in {0, len(ids) // 2, len(ids) - 1}:
        alone = encoder.encode(torch.tensor(ids[index]), [0, len(ids[index])], isa=isa)
        assert torch.equal(alone[0], together[index])
    tokens = encoder.tokens(ids_T, offsets, layers=2, threads=threads, isa=isa)
    first_SD = tokens[: len(ids[0])]
    mean_D = first_SD.double().mean(dim=0)
    lost = tolerances.mean(first_SD).norm() / mean_D.norm() + tolerances.gamma(width + 3)
    tolerances.assert_within(together[0], mean_D / mean_D.norm(), lost)


@pytest.mark.parametrize("encoder", [ENCODER, *WHOLE_TILES])
def test_tiles_and_vectors_give_the_same_bits(encoder: Encoder) -> None:
    if reasons := native.why_not("amx"):
        pytest.skip("; ".join(reasons))
    offsets = [*range(0, 130, 13), *range(130, 500, POSITIONS)]
    ids_T = torch.randint(0, ROWS, (offsets[-1],), generator=GENERATOR)
    assert torch.equal(encoder.encode(ids_T, offsets, isa="amx"), encoder.encode(ids_T, offsets, isa="vnni"))


@pytest.mark.parametrize(
    ("ids_T", "offsets", "message"),
    [
        (torch.tensor([1, ROWS]), [0, 2], r"ids_T lies in \[1, 11\]; expected \[0, 10\]"),
        (torch.tensor([-1, 1]), [0, 2], r"ids_T lies in \[-1, 1\]"),
        (torch.tensor([1, 1]), [0, 1], r"offsets go from \[0\] to \[1\]; expected 0 to 2"),
        (torch.tensor([1, 1]), [1, 2], "offsets go from"),
        (torch.tensor([1, 1]), [2], "offsets go from"),
        (torch.tensor([1, 1]), [], "offsets go from"),
        (torch.tensor([1, 1]), [0, 2, 1, 2], "sequences have -1 to 2 tokens; expected 1 to 20"),
        (torch.tensor([1, 1]), [0, 0, 2], "sequences have 0 to 2 tokens"),
        (torch.ones(POSITIONS + 1, dtype=torch.int64), [0, POSITIONS + 1], "sequences have 21 to 21 tokens"),
        (torch.tensor([], dtype=torch.int64), [0, 0], r"ids_T is torch.int64 \(0,\); expected int64 \[T\], T > 0"),
        (torch.tensor([1, 1], dtype=torch.int32), [0, 2], "ids_T is torch.int32"),
        (torch.ones(2, 2, dtype=torch.int64), [0, 2], "ids_T is torch.int64"),
    ],
)
def test_refuses_batches_that_do_not_fit(ids_T: Tensor, offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ENCODER.encode(ids_T, offsets)
    with pytest.raises(ValueError, match=message):
        ENCODER.tokens(ids_T, offsets, layers=1)


@given(st.permutations(range(5)), st.integers(1, 3))
def test_a_sequence_goes_to_its_row(rows: list[int], threads: int) -> None:
    ids_T = torch.arange(10) % ROWS
    offsets = [0, 1, 3, 4, 7, 10]
    found = ENCODER.encode(ids_T, offsets, rows=rows, threads=threads)
    assert torch.equal(found[rows], ENCODER.encode(ids_T, offsets))


@pytest.mark.parametrize("rows", [[], [0], [0, 0], [1, 2], [-1, 0]])
def test_refuses_rows_that_are_not_each_there_once(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="expected each below 2 once"):
        ENCODER.encode(torch.tensor([1, 1]), [0, 1, 2], rows=rows)


@pytest.mark.parametrize("layers", [-1, 3])
def test_refuses_layers_that_are_not_there(layers: int) -> None:
    with pytest.raises(ValueError, match=f"layers is {layers}; expected 0 to 2"):
        ENCODER.tokens(torch.tensor([1]), [0, 1], layers=layers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_V": torch.ones(ROWS + 1)}, "scale_V is"),
        ({"word_VD": EMBEDDING.word_VD.float()}, "word_VD is torch.float32"),
        ({"position_PD": torch.ones(POSITIONS, WIDTH * 2)[:, ::2]}, "position_PD is .*expected dense"),
        ({"norm": NormWeights(torch.ones(WIDTH), torch.ones(1), 1e-6)}, "norm.bias_D is"),
    ],
)
def test_refuses_embeddings_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(replace(EMBEDDING, **change), BLOCKS, num_heads=HEADS, inner=INNER)


@pytest.mark.parametrize("name", ["qkv", "out", "up", "down"])
@pytest.mark.parametrize("wrong", [packed(7, WIDTH), torch.zeros(4, dtype=torch.uint8), torch.zeros(64)])
def test_refuses_matrices_that_do_not_fit(name: str, wrong: Tensor) -> None:
    change: dict[str, Any] = {name: wrong}
    with pytest.raises(ValueError, match=rf"{name} is packed as .*; expected 8 or 4 bits"):
        Encoder(EMBEDDING, [replace(block(), **change)], num_heads=HEADS, inner=INNER)


def test_reasons() -> None:
    assert why_not(width=32, num_heads=2, inner=48, positions=512) == []
    assert why_not(width=40, num_heads=2, inner=50, positions=40_000) == [
        "a head is 20 wide; expected a multiple of 16 up to 256",
        "40 is no multiple of 16",
        "50 is no multiple of 16",
        "sequences have up to 40000 tokens; expected at most 32768",
    ]
