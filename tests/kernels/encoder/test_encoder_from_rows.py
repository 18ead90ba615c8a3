"""The native encoder resumes from the rows between two blocks, and gives the same bits as the whole forward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import native
from kernels.encoder import EncoderKernel
from tests.kernels.encoder.blocks import POSITIONS, sequences
from tests.kernels.encoder.test_encoder import ENCODER, WHOLE_TILES, WIDTH


@given(
    st.lists(st.integers(1, POSITIONS), min_size=1, max_size=40),
    st.integers(0, 2),
    st.integers(1, 4),
    st.sampled_from([isa for isa in native.ISAS if not native.why_unavailable(isa)]),
    st.sampled_from([ENCODER, *WHOLE_TILES]),
)
@settings(max_examples=100)
def test_rows_between_blocks_go_on_to_the_same_bits(
    lengths: list[int], layer: int, threads: int, isa: str, encoder: EncoderKernel
) -> None:
    """The whole batch can resume, and so can some of its sequences."""
    ids_T, offsets = sequences(lengths)
    expected = encoder.encode(ids_T, offsets, isa=isa)
    x_TD = encoder.tokens(ids_T, offsets, layers=layer, threads=threads, isa=isa)
    before_TD = x_TD.clone()
    rows = list(reversed(range(len(lengths))))
    found = encoder.encode_from(x_TD, offsets, layer=layer, rows=rows, threads=threads, isa=isa)
    assert torch.equal(found[rows], expected)
    half = (len(lengths) + 1) // 2
    start = offsets[-half - 1]
    few_TD = x_TD[start:]
    some = encoder.encode_from(few_TD, [each - start for each in offsets[-half - 1 :]], layer=layer, isa=isa)
    assert torch.equal(some, expected[-half:])
    assert torch.equal(x_TD, before_TD)
    # Rows at the input of block 0 give the rows above any block, too.
    embedded_TD = encoder.tokens(ids_T, offsets, layers=0, isa=isa)
    above_TD = encoder.tokens_from(embedded_TD, offsets, layers=layer, threads=threads, isa=isa)
    assert torch.equal(above_TD, before_TD)


@pytest.mark.parametrize(
    ("x_TD", "offsets", "layer", "message"),
    [
        (torch.zeros(2, WIDTH), [0, 2], 3, "layer is 3; expected 0 to 2"),
        (torch.zeros(2, WIDTH), [0, 2], -1, "layer is -1"),
        (torch.zeros(2, WIDTH), [0, 3], 1, r"offsets go from \[0\] to \[3\]; expected 0 to 2"),
        (torch.zeros(POSITIONS + 1, WIDTH), [0, POSITIONS + 1], 1, "sequences have 21 to 21 tokens"),
        (torch.zeros(2, WIDTH + 1), [0, 2], 1, r"x_TD is torch.float32 \(2, 33\); expected float32 \[T, 32\]"),
        (torch.zeros(2), [0, 2], 1, r"x_TD is torch.float32 \(2,\)"),
        (torch.zeros(2, WIDTH).double(), [0, 2], 1, "x_TD is torch.float64"),
    ],
)
def test_refuses_rows_that_do_not_fit(x_TD: Tensor, offsets: list[int], layer: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ENCODER.encode_from(x_TD, offsets, layer=layer)


@pytest.mark.parametrize("rows", [[0], [0, 0]])
def test_refuses_places_that_are_not_each_there_once(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="expected each below 2 once"):
        ENCODER.encode_from(torch.zeros(2, WIDTH), [0, 1, 2], layer=1, rows=rows)
