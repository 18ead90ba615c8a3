"""A whole encoder in one native call: ragged token ids in, one vector for each sequence out.

    ids -> embed -> blocks -> mean of each sequence -> length 1
    a block: qkv -> attention -> out + residual -> norm -> up, gelu -> down + residual -> norm

Between two products a row gets its epilogue, is normalised and is quantized for the next product while it lies in the
cache. A piece, a run of whole sequences of about 400 tokens together, goes through all layers at once; threads take
pieces from one atomic counter. Weights are packed once, and an encoder is immutable from then on. A swap therefore
exchanges one reference, and a running batch keeps the old encoder alive.

This package has no reference of its own. Its definition is those of its operations, one after the other, which
`model.forward.library` puts together for the real weights (LIFELONG_KERNELS=reference);
tests/model/forward/test_native.py compares the two layer by layer. A second copy of that chain here would be a second
definition. Callers use `why_not` and `Encoder`, and make its weights from the three records.

Rejected: one native call for each operation. At one short text the calls take as long as the products.

Shape suffixes: T tokens of all sequences, B sequences, D width, F width inside a block, V vocabulary, P positions.
"""

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import native
from kernels.allocator import huge_page_tensor
from kernels.attention_i8.native import LANES, why_not_head
from kernels.attention_i8.reference import MAX_SEQUENCE_TOKENS
from kernels.native import address, binding

__all__ = ["BlockWeights", "EmbeddingWeights", "Encoder", "NormWeights", "why_not"]

MAX_THREADS = 64


@dataclass(frozen=True, slots=True)
class NormWeights:
    """Layer normalisation over D: float32 gain_D and bias_D.

    The normalised row is multiplied by `in_scale_D`, if given, before it is rounded for the next matrix. The residual
    sum gets the row without that factor.
    """

    gain_D: Tensor
    bias_D: Tensor
    eps: float
    in_scale_D: Tensor | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingWeights:
    """int8 word_VD with a float32 scale_V for each row; float32 position_PD, which includes the segment's embedding."""

    word_VD: Tensor
    scale_V: Tensor
    position_PD: Tensor
    norm: NormWeights


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """The four matrices of a block, packed by `linear_i8.native` or `linear_i4.native`, and its two norms."""

    qkv: Tensor
    out: Tensor
    norm1: NormWeights
    up: Tensor
    down: Tensor
    norm2: NormWeights


def why_not(*, width: int, num_heads: int, inner: int, positions: int) -> list[str]:
    """Returns the reasons against encoders of this shape on this machine."""
    reasons = [*native.why_not(), *why_not_head(width // num_heads)]
    reasons += [f"{value} is no multiple of {LANES}" for value in (width, inner) if value % LANES]
    if positions > MAX_SEQUENCE_TOKENS:
        reasons.append(f"sequences have up to {positions} tokens; expected at most {MAX_SEQUENCE_TOKENS}")
    return reasons


class Encoder:
    """An encoder with packed weights. It is immutable, and any number of threads may call it at once."""

    def __init__(
        self, embedding: EmbeddingWeights, blocks: Sequence[BlockWeights], *, num_heads: int, inner: int
    ) -> None:
        """Raises ValueError, naming the weight, for a dtype or shape that does not fit. `why_not` must be empty."""
        self._num_words, self._width = embedding.word_VD.shape
        self._num_positions = len(embedding.position_PD)
        _check("word_VD", embedding.word_VD, torch.int8, (self._num_words, self._width))
        _check("scale_V", embedding.scale_V, torch.float32, (self._num_words,))
        _check("position_PD", embedding.position_PD, torch.float32, (self._num_positions, self._width))
        matrices = _contiguous([self._matrices(block, inner) for block in blocks])
        norms = [(block.norm1, block.norm2) for block in blocks]
        self._owned = (embedding, norms, matrices)  # keeps alive the tensors whose addresses the records below hold
        records = (binding.NativeBlock * len(blocks))(*map(self._block, blocks, matrices))
        self._record = binding.NativeEncoder(
            self._width,
            num_heads,
            inner,
            len(blocks),
            binding.NativeEmbedding(
                self._num_words,
                address(embedding.word_VD),
                address(embedding.scale_V),
                address(embedding.position_PD),
                self._norm("norm", embedding.norm),
            ),
            records,
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
        """Returns z_BD float32, unit vectors. Sequence i is ids_T[offsets[i]:offsets[i + 1]], int64.

        Its vector is row rows[i], or row i without `rows`. Raises ValueError for offsets that do not rise from 0 to T,
        a sequence longer than there are positions, an id outside the vocabulary, `rows` that are no permutation, or
        another dtype.
        """
        every_row = range(len(offsets) - 1)
        rows = every_row if rows is None else rows
        if sorted(rows) != list(every_row):
            raise ValueError(f"rows are {list(rows)[:8]}; expected each below {len(every_row)} once")
        return self._run(ids_T, offsets, self._record.layers, rows, threads, isa)

    def tokens(
        self, ids_T: Tensor, offsets: Sequence[int], *, layers: int, threads: int = 1, isa: str | None = None
    ) -> Tensor:
        """Returns x_TD float32: every token's row after the first `layers` blocks. Raises like `encode`."""
        if not 0 <= layers <= self._record.layers:
            raise ValueError(f"layers is {layers}; expected 0 to {self._record.layers}")
        return self._run(ids_T, offsets, layers, None, threads, isa)

    def _run(
        self,
        ids_T: Tensor,
        offsets: Sequence[int],
        layers: int,
        rows: Sequence[int] | None,
        threads: int,
        isa: str | None,
    ) -> Tensor:
        self._check(ids_T, offsets)
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

    def _check(self, ids_T: Tensor, offsets: Sequence[int]) -> None:
        """Checks everything but the values of the ids.

        The kernels check those: one operation of torch would take longer than all other checks together.
        """
        if ids_T.dim() != 1 or ids_T.dtype != torch.int64 or not len(ids_T):
            raise ValueError(f"ids_T is {ids_T.dtype} {tuple(ids_T.shape)}; expected int64 [T], T > 0")
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(ids_T):
            raise ValueError(f"offsets go from {list(offsets[:1])} to {list(offsets[-1:])}; expected 0 to {len(ids_T)}")
        lengths = [end - start for start, end in itertools.pairwise(offsets)]
        shortest = min(lengths)
        longest = max(lengths)
        if shortest < 1 or longest > self._num_positions:
            raise ValueError(f"sequences have {shortest} to {longest} tokens; expected 1 to {self._num_positions}")

    def _matrices(self, block: BlockWeights, inner: int) -> list[Tensor]:
        """Returns the matrices in the order in which the kernels read them."""
        shapes = {"qkv": (3 * self._width, self._width), "out": (self._width, self._width)}
        shapes |= {"up": (inner, self._width), "down": (self._width, inner)}
        for name, shape in shapes.items():
            _check_packed(name, getattr(block, name), shape)
        return [getattr(block, name) for name in shapes]

    def _block(self, block: BlockWeights, matrices: Sequence[Tensor]) -> binding.NativeBlock:
        return binding.NativeBlock(
            *map(address, matrices),
            self._norm("norm1", block.norm1),
            self._norm("norm2", block.norm2),
        )

    def _norm(self, name: str, norm: NormWeights) -> binding.Norm:
        _check(f"{name}.gain_D", norm.gain_D, torch.float32, (self._width,))
        _check(f"{name}.bias_D", norm.bias_D, torch.float32, (self._width,))
        if norm.in_scale_D is not None:
            _check(f"{name}.in_scale_D", norm.in_scale_D, torch.float32, (self._width,))
        in_scale = None if norm.in_scale_D is None else address(norm.in_scale_D)
        return binding.Norm(address(norm.gain_D), address(norm.bias_D), in_scale, norm.eps)


def _contiguous(blocks: Sequence[Sequence[Tensor]]) -> list[tuple[Tensor, ...]]:
    """Copies the matrices into one allocation, in order, so that a kernel prefetches the matrix that comes next."""
    flat = list(itertools.chain.from_iterable(blocks))
    lengths = [len(matrix) for matrix in flat]
    memory = torch.cat(flat, out=huge_page_tensor(sum(lengths)))
    views = iter(torch.split(memory, lengths))
    return [tuple(itertools.islice(views, len(matrices))) for matrices in blocks]


def _check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected dense {dtype} {list(shape)}")


def _check_packed(name: str, packed: Tensor, shape: tuple[int, int]) -> None:
    """Raises ValueError unless the header of the packed weight says this shape: its bits, outputs and inputs."""
    header: list[int] = []
    if packed.dtype == torch.uint8 and len(packed) >= 12:
        header = packed[:12].view(torch.int32).tolist()
    if header not in ([8, *shape], [4, *shape]):
        raise ValueError(f"{name} is packed as {header}; expected 8 or 4 bits, {shape[0]} outputs, {shape[1]} inputs")
