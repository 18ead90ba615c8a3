"""A whole encoder in one native call: ragged token ids in, one vector for each sequence out.

    ids -> embed -> blocks -> mean of each sequence, or its first row -> length 1
    a block: qkv -> attention -> out + residual -> norm -> up, gelu -> down + residual -> norm

Between two products, a row gets its epilogue, is normalised, and is quantized for the next product while it is in the
cache. A piece is a run of whole sequences with about 400 tokens in total. It goes through all layers at once; threads
take pieces from one atomic counter. Weights are packed once, and an encoder is immutable from then on. To swap encoders
therefore means to exchange one reference, and a running batch keeps the old encoder alive.

This package has no reference implementation. Its definition is the chain of the references of its operations, which
`model.forward.library` builds for real weights (LIFELONG_KERNELS=reference), and tests/model/forward/test_native.py
compares the two layer by layer. A copy of the chain here would be a second definition. Callers use `why_unavailable`
and `EncoderKernel`, and build its weights from the records of `weights`.

Shape suffixes: T tokens of all sequences, B sequences, D width.
"""

import itertools
from array import array
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from kernels import native
from kernels.attention_i8.native import why_not_head
from kernels.attention_i8.reference import MAX_SEQUENCE_TOKENS
from kernels.attention_i8.spans import LANES
from kernels.encoder.weights import (
    BlockShape,
    BlockWeights,
    EmbeddingWeights,
    MatrixWeights,
    NormWeights,
    RotaryWeights,
    copy_contiguously,
)
from kernels.native import address, binding

__all__ = [
    "BlockShape",
    "BlockWeights",
    "EmbeddingWeights",
    "EncoderKernel",
    "MatrixWeights",
    "NormWeights",
    "RotaryWeights",
    "why_unavailable",
]

MAX_THREADS = 64


def why_unavailable(*, width: int, positions: int, blocks: Iterable[BlockShape]) -> list[str]:
    """Returns the reasons why encoders of this shape cannot run on this machine; [] if they can.

    `width` is the width D of a token, and `positions` the number of tokens of the longest sequence.
    """
    reasons = native.why_unavailable()
    if width % LANES:
        reasons.append(f"a token is {width} wide; expected a multiple of {LANES}")
    if positions > MAX_SEQUENCE_TOKENS:
        reasons.append(f"sequences have up to {positions} tokens; expected at most {MAX_SEQUENCE_TOKENS}")
    for block in blocks:
        reasons += why_not_head(block.head_width)
        if block.inner % LANES:
            reasons.append(f"the feed-forward part is {block.inner} wide; expected a multiple of {LANES}")
    return list(dict.fromkeys(reasons))


class EncoderKernel:
    """An encoder that runs in one native call. It is immutable, and many threads may call it at the same time."""

    def __init__(
        self,
        embedding: EmbeddingWeights,
        blocks: Sequence[BlockWeights],
        *,
        pools_first: bool = False,
        unit: bool = True,
        shared: Sequence[Tensor] = (),
    ) -> None:
        """Copies the matrices into one allocation. The caller must have checked that `why_unavailable` returns [].

        - `pools_first`: the vector of a sequence is its first row. Otherwise, it is the mean of its rows.
        - `unit`: the vector of a sequence is scaled to length 1.
        - `shared`: the packed matrices of `blocks` that belong to another encoder. They are not copied.

        Raises ValueError, naming the weight, for a dtype or shape that does not fit.
        """
        self._num_words = len(embedding.word_VE)
        self._width = embedding.width
        # If queries and keys are rotated, the position embedding has a single row for all positions.
        rotations = [len(block.rotary.cos_PC) for block in blocks if block.rotary]
        self._num_positions = min(rotations, default=len(embedding.position_PD))
        if rotations and len(embedding.position_PD) > 1:
            raise ValueError(f"position_PD has {len(embedding.position_PD)} rows; expected 1 if queries are rotated")
        for block in blocks:
            block.check_matrices(self._width)
        self.blocks = copy_contiguously(blocks, shared)
        records = [block.native(self._width) for block in self.blocks]
        # The records hold addresses: `_embedding` and `blocks` keep the tensors at these addresses alive.
        self._embedding = embedding
        self._record = binding.NativeEncoder(
            self._width,
            len(records),
            pools_first,
            unit,
            embedding.native(),
            (binding.NativeBlock * len(records))(*records),
        )

    def encode(
        self,
        ids_T: Tensor,
        offsets: Sequence[int],
        *,
        rows: Sequence[int] | None = None,
        threads: int = 1,
        isa: str | None = None,
    ) -> Tensor:
        """Returns z_BD float32: one vector for each sequence.

        The token ids of sequence i are ids_T[offsets[i]:offsets[i + 1]], int64. The vector of sequence i is row rows[i]
        of the result, or row i without `rows`. `isa` forces an instruction set. Raises ValueError for

        - offsets that do not rise from 0 to T,
        - a sequence with more tokens than there are positions,
        - an id outside the vocabulary,
        - `rows` that are not a permutation, or
        - another dtype.
        """
        return self._run(ids_T, offsets, self._record.layers, _checked_rows(rows, offsets), threads, isa)

    def tokens(
        self, ids_T: Tensor, offsets: Sequence[int], *, layers: int, threads: int = 1, isa: str | None = None
    ) -> Tensor:
        """Returns x_TD float32: the row of every token after the first `layers` blocks.

        Raises like `encode`.
        """
        self._check_layer("layers", layers)
        return self._run(ids_T, offsets, layers, None, threads, isa)

    def encode_from(
        self,
        x_TD: Tensor,
        offsets: Sequence[int],
        *,
        layer: int,
        rows: Sequence[int] | None = None,
        threads: int = 1,
        isa: str | None = None,
    ) -> Tensor:
        """Returns the vectors of sequences whose tokens have already passed the first `layer` blocks.

        x_TD is what `tokens` returned for `layers=layer`, and the vectors have the same bits as those of `encode`.
        x_TD may come from another encoder that has the same embedding and the same first `layer` blocks. Raises like
        `encode`.
        """
        return self._run_from(self._record, x_TD, offsets, layer, _checked_rows(rows, offsets), threads, isa)

    def tokens_from(
        self, x_TD: Tensor, offsets: Sequence[int], *, layers: int, threads: int = 1, isa: str | None = None
    ) -> Tensor:
        """Returns the row of every token after the first `layers` blocks, float32, from x_TD at the input of block 0.

        Raises like `encode`.
        """
        self._check_layer("layers", layers)
        record = binding.NativeEncoder.from_buffer_copy(self._record)
        record.layers = layers
        return self._run_from(record, x_TD, offsets, 0, None, threads, isa)

    def _run_from(
        self,
        record: binding.NativeEncoder,
        x_TD: Tensor,
        offsets: Sequence[int],
        layer: int,
        rows: Sequence[int] | None,
        threads: int,
        isa: str | None,
    ) -> Tensor:
        self._check_layer("layer", layer)
        self._check_lengths(len(x_TD), offsets)
        if x_TD.dtype != torch.float32 or x_TD.shape[1:] != (self._width,):
            raise ValueError(f"x_TD is {x_TD.dtype} {tuple(x_TD.shape)}; expected float32 [T, {self._width}]")
        x_TD = x_TD.contiguous()
        offsets_B = array("i", offsets)
        rows_B = None if rows is None else array("i", rows)
        out = torch.empty(len(x_TD) if rows is None else len(rows), self._width)
        status = native.kernels(isa).encode_from(
            record,
            layer,
            address(x_TD),
            offsets_B.buffer_info()[0],
            None if rows_B is None else rows_B.buffer_info()[0],
            len(offsets_B) - 1,
            max(1, min(threads, MAX_THREADS)),
            address(out),
        )
        native.raise_for_status(status)
        return out

    def _run(
        self,
        ids_T: Tensor,
        offsets: Sequence[int],
        layers: int,
        rows: Sequence[int] | None,
        threads: int,
        isa: str | None,
    ) -> Tensor:
        # The kernels check the values of the ids, because one torch operation takes longer than all other checks.
        if ids_T.dim() != 1 or ids_T.dtype != torch.int64 or not len(ids_T):
            raise ValueError(f"ids_T is {ids_T.dtype} {tuple(ids_T.shape)}; expected int64 [T], T > 0")
        self._check_lengths(len(ids_T), offsets)
        ids_T = ids_T.contiguous()
        offsets_B = array("i", offsets)
        rows_B = None if rows is None else array("i", rows)
        out = torch.empty(len(ids_T) if rows is None else len(rows), self._width)
        status = native.kernels(isa).encode(
            self._record,
            layers,
            address(ids_T),
            offsets_B.buffer_info()[0],
            None if rows_B is None else rows_B.buffer_info()[0],
            len(offsets_B) - 1,
            max(1, min(threads, MAX_THREADS)),
            address(out),
        )
        if status == binding.NO_SUCH_WORD:
            lowest, highest = (int(value) for value in torch.aminmax(ids_T))
            raise ValueError(f"ids_T lies in [{lowest}, {highest}]; expected [0, {self._num_words - 1}]")
        native.raise_for_status(status)
        return out

    def _check_lengths(self, num_tokens: int, offsets: Sequence[int]) -> None:
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != num_tokens:
            raise ValueError(f"offsets go from {list(offsets[:1])} to {list(offsets[-1:])}; expected 0 to {num_tokens}")
        lengths = [end - start for start, end in itertools.pairwise(offsets)]
        shortest = min(lengths)
        longest = max(lengths)
        if shortest < 1 or longest > self._num_positions:
            raise ValueError(f"sequences have {shortest} to {longest} tokens; expected 1 to {self._num_positions}")

    def _check_layer(self, name: str, layer: int) -> None:
        if not 0 <= layer <= self._record.layers:
            raise ValueError(f"{name} is {layer}; expected 0 to {self._record.layers}")


def _checked_rows(rows: Sequence[int] | None, offsets: Sequence[int]) -> Sequence[int]:
    """Returns `rows`, or 0, 1, 2, ... if `rows` is None. Raises ValueError unless `rows` is a permutation."""
    every_row = range(len(offsets) - 1)
    if rows is None:
        return every_row
    if sorted(rows) != list(every_row):
        raise ValueError(f"rows are {list(rows)[:8]}; expected each below {len(every_row)} once")
    return rows
