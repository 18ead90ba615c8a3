"""The boundary of the native encoder: it refuses wrong arguments by name, and no argument crashes it."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import native
from kernels.encoder import BlockShape, EncoderKernel, MatrixWeights, RotaryWeights, why_unavailable
from kernels.linear_i8.native import linear, pack_weight
from kernels.linear_i8.reference import Int8Weight
from tests.kernels import tolerances
from tests.kernels.attention_i8.sequences import Keys
from tests.kernels.encoder.blocks import (
    GENERATOR,
    POSITIONS,
    WORDS,
    Pack,
    block,
    embedding,
    normalised,
    packed,
    packed_i4,
    run_block,
    sequences,
)
from tests.required import impossible

WIDTH = 32
SHAPE = BlockShape(heads=2, kv_heads=2, head_width=16, inner=48)
ENCODER = EncoderKernel(embedding(WIDTH), [block(WIDTH, SHAPE), block(WIDTH, SHAPE)])


def whole_tiles(pack: Pack) -> EncoderKernel:
    shape = BlockShape(heads=2, kv_heads=2, head_width=32, inner=128)
    return EncoderKernel(embedding(64), [block(64, shape, pack), block(64, shape, pack)])


WHOLE_TILES = [whole_tiles(packed), whole_tiles(packed_i4)]
"""Encoders whose matrices are whole numbers of tiles, in INT8 and in INT4."""

SHAPES = [BlockShape(4, 2, 16, 192), BlockShape(1, 1, 32, 64), BlockShape(6, 1, 32, 128)]
"""Blocks whose widths (all heads together, one head, the feed-forward part) differ from the token's width, 64."""


@given(
    st.lists(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=POSITIONS), min_size=1, max_size=40),
    st.integers(1, 4),
    st.sampled_from([isa for isa in native.ISAS if not native.why_unavailable(isa)]),
    st.sampled_from([ENCODER, *WHOLE_TILES]),
)
@settings(max_examples=100)
def test_a_sequence_gets_the_same_bits_in_any_batch(
    ids: list[list[int]], threads: int, isa: str, encoder: EncoderKernel
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


@pytest.mark.parametrize("isa", native.ISAS)
@pytest.mark.parametrize("encoder", [ENCODER, *WHOLE_TILES])
def test_every_instruction_set_gives_the_same_bits(encoder: EncoderKernel, isa: str) -> None:
    if reasons := native.why_unavailable(isa):
        impossible("; ".join(reasons))
    offsets = [*range(0, 130, 13), *range(130, 500, POSITIONS)]
    ids_T = torch.randint(0, WORDS, (offsets[-1],), generator=GENERATOR)
    assert torch.equal(encoder.encode(ids_T, offsets, isa=isa), encoder.encode(ids_T, offsets, isa="plain"))


@pytest.mark.parametrize(
    ("ids_T", "offsets", "message"),
    [
        (torch.tensor([1, WORDS]), [0, 2], r"ids_T lies in \[1, 11\]; expected \[0, 10\]"),
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
    ids_T = torch.arange(10) % WORDS
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


@pytest.mark.parametrize("pack", [packed, packed_i4])
def test_blocks_may_differ_in_shape(isa: str, pack: Pack) -> None:
    """A block gives the same bits as its operations, one after the other."""
    blocks = [block(64, shape, packed if shape.heads == 1 else pack, in_scale=False) for shape in SHAPES]
    encoder = EncoderKernel(embedding(64, in_scale=False), blocks)
    ids_T, offsets = sequences([POSITIONS, 1, 7, *[POSITIONS] * 8])
    for layer, weights in enumerate(blocks):
        before_TD = encoder.tokens(ids_T, offsets, layers=layer, isa=isa)
        found = encoder.tokens(ids_T, offsets, layers=layer + 1, isa=isa)
        assert torch.equal(found, run_block(before_TD, weights, offsets, isa)), layer


@pytest.mark.parametrize("pack", [packed, packed_i4])
def test_low_rank_additions(isa: str, pack: Pack) -> None:
    """A block with additions of any rank gives the same bits as its operations, one after the other."""
    weights = block(64, SHAPES[0], pack, in_scale=False, ranks=(8, 64, 0, 70))
    encoder = EncoderKernel(embedding(64, in_scale=False), [weights])
    ids_T, offsets = sequences([POSITIONS, 1, *[POSITIONS] * 8])
    expected = run_block(encoder.tokens(ids_T, offsets, layers=0, isa=isa), weights, offsets, isa)
    assert torch.equal(encoder.tokens(ids_T, offsets, layers=1, isa=isa), expected)


def test_a_low_rank_addition_inside_the_gelu(isa: str) -> None:
    """The addition comes before the GELU: with a weight of zeros, the result is the GELU of the addition alone."""
    plain = block(64, SHAPES[1], in_scale=False)
    zeros = pack_weight(Int8Weight.of(torch.zeros(64, 64, dtype=torch.int8), torch.ones(64), None))
    identity = pack_weight(Int8Weight.of(torch.eye(64, dtype=torch.int8), torch.ones(64), None))
    ids_T, offsets = sequences([POSITIONS])
    words = embedding(64, in_scale=False)
    added = replace(plain, up=MatrixWeights(zeros, None, (plain.up.packed, identity)))
    found, expected = (
        EncoderKernel(words, [each]).tokens(ids_T, offsets, layers=1, isa=isa) for each in (added, plain)
    )
    assert (found - expected).abs().mean() < 0.1 < expected.abs().mean()


@pytest.mark.parametrize("name", ["qkv", "out", "up", "down"])
def test_a_bias_may_replace_the_packed_one(isa: str, name: str) -> None:
    weights = block(64, BlockShape(2, 2, 32, 64))
    num_out = 192 if name == "qkv" else 64
    q_NK = torch.randint(-127, 128, (num_out, 64), dtype=torch.int8, generator=GENERATOR)
    bias_N = torch.randn(num_out, generator=GENERATOR)
    own, none = (pack_weight(Int8Weight.of(q_NK, torch.full((num_out,), 0.002), each)) for each in (bias_N, None))
    ids_T, offsets = sequences([POSITIONS, 3, *[POSITIONS] * 4])
    words = embedding(64)
    both: list[Tensor] = []
    for matrix in (MatrixWeights(own), MatrixWeights(none, bias_N)):
        change: dict[str, Any] = {name: matrix}
        both.append(EncoderKernel(words, [replace(weights, **change)]).encode(ids_T, offsets, isa=isa))
    assert torch.equal(*both)


@pytest.mark.parametrize("pack", [packed, packed_i4])
def test_a_matrix_may_widen_the_words(isa: str, pack: Pack) -> None:
    words = embedding(64, in_scale=False)
    narrow_VE = torch.randint(-127, 128, (WORDS, 64), dtype=torch.int8, generator=GENERATOR)
    narrow = replace(words, word_VE=narrow_VE, expand=pack(64, 64))
    ids_T, offsets = sequences([POSITIONS, 1, *[POSITIONS] * 8])
    found = EncoderKernel(narrow, [block(64, SHAPES[0])]).tokens(ids_T, offsets, layers=0, isa=isa)
    positions_T = torch.cat([torch.arange(end - start) for start, end in itertools.pairwise(offsets)])
    assert narrow.expand is not None
    word_TD = linear(narrow_VE[ids_T].float() * words.scale_V[ids_T, None], narrow.expand, 64, isa=isa)
    expected = normalised(words.position_PD[positions_T] + word_TD, words.norm, isa)
    assert torch.equal(found, expected)


def test_rotated_queries_and_keys(isa: str) -> None:
    """A block with a rotation before the attention gives the same bits as its operations, one after the other."""
    angle_PC = torch.rand(POSITIONS, 16, generator=GENERATOR) * 9
    rotary = RotaryWeights(angle_PC.cos(), angle_PC.sin())
    weights = replace(block(64, BlockShape(4, 2, 32, 64), in_scale=False), rotary=rotary)
    words = embedding(64, in_scale=False)
    encoder = EncoderKernel(replace(words, position_PD=words.position_PD[:1].clone()), [weights])
    ids_T, offsets = sequences([POSITIONS, 1, *[POSITIONS] * 8])
    expected = run_block(encoder.tokens(ids_T, offsets, layers=0, isa=isa), weights, offsets, isa)
    assert torch.equal(encoder.tokens(ids_T, offsets, layers=1, isa=isa), expected)


def test_heads_may_see_some_of_the_keys(isa: str) -> None:
    spans = ((2, Keys("topk", window=1, block=16, topk=1)), (2, Keys("local", window=3, sinks=1)))
    weights = block(64, BlockShape(4, 2, 16, 64, spans), in_scale=False)
    encoder = EncoderKernel(embedding(64, in_scale=False), [weights])
    ids_T, offsets = sequences([POSITIONS, 1, *[POSITIONS] * 8])
    expected = run_block(encoder.tokens(ids_T, offsets, layers=0, isa=isa), weights, offsets, isa)
    assert torch.equal(encoder.tokens(ids_T, offsets, layers=1, isa=isa), expected)


def test_blocks_may_share_matrices() -> None:
    first = block(64, SHAPES[0])
    second = replace(block(64, SHAPES[0]), qkv=first.qkv, up=first.up)
    ids_T, offsets = sequences([3, POSITIONS])
    copied = replace(second, qkv=MatrixWeights(first.qkv.packed.clone()), up=MatrixWeights(first.up.packed.clone()))
    words = embedding(64)
    shared, separate = (EncoderKernel(words, [first, each]) for each in (second, copied))
    assert torch.equal(shared.encode(ids_T, offsets), separate.encode(ids_T, offsets))


def test_reasons() -> None:
    assert why_unavailable(width=32, positions=512, blocks=[SHAPE, *SHAPES]) == []
    assert why_unavailable(width=40, positions=40_000, blocks=[BlockShape(2, 2, 20, 50), BlockShape(2, 1, 20, 50)]) == [
        "a token is 40 wide; expected a multiple of 16",
        "sequences have up to 40000 tokens; expected at most 32768",
        "a head is 20 wide; expected a multiple of 16 up to 256",
        "the feed-forward part is 50 wide; expected a multiple of 16",
    ]
