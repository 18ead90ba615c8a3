"""The records of which an `EncoderKernel` is made, embedding and blocks, and how the kernels get them.

    EmbeddingWeights --checked, addresses--> binding.NativeEmbedding
    BlockWeights --contiguous--> BlockWeights in one allocation --checked, addresses--> binding.NativeBlock

All matrices are copied into one allocation, in the order in which they are read, so that a kernel prefetches the matrix
that comes next. A matrix that several blocks share is held once, and one that another encoder has placed stays there.
The kernels check nothing, so every tensor is checked here.

Shape suffixes: T tokens, V vocabulary, E width of a word, G its groups, P positions, D width, C half the width of a
head, N outputs, K inputs, R rank.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from kernels.allocator import huge_page_tensor
from kernels.attention.spans import KeySpan
from kernels.attention_i8.native import head_shape
from kernels.attention_i8.spans import why_not_spans
from kernels.linear_i4.reference import GROUP, high_plane
from kernels.native import address, binding


def check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the tensor is dense and has this dtype and shape."""
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected dense {dtype} {list(shape)}")


def check_packed(name: str, packed: Tensor, shape: tuple[int, int], *, bits: Sequence[int] = (8, 4)) -> None:
    """Raises ValueError unless the header of the packed weight says this shape, and one of these numbers of bits."""
    header = header_of(packed)
    if header not in [[each, *shape] for each in bits]:
        raise ValueError(
            f"{name} is packed as {header}; "
            f"expected {' or '.join(map(str, bits))} bits, {shape[0]} outputs, {shape[1]} inputs"
        )


def header_of(packed: Tensor) -> list[int]:
    """Returns bits, outputs and inputs of a packed weight; nothing of what is none."""
    is_packed = packed.dtype == torch.uint8 and len(packed) >= 12
    return packed[:12].view(torch.int32).tolist() if is_packed else []


PANEL = 64
"""The outputs of a panel of a packed weight (source/weight.h)."""


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

    def native(self, name: str, width: int) -> binding.Norm:
        """Returns the addresses. Raises ValueError, naming the weight, for a dtype or shape that does not fit."""
        check(f"{name}.gain_D", self.gain_D, torch.float32, (width,))
        check(f"{name}.bias_D", self.bias_D, torch.float32, (width,))
        if self.in_scale_D is not None:
            check(f"{name}.in_scale_D", self.in_scale_D, torch.float32, (width,))
        in_scale = None if self.in_scale_D is None else address(self.in_scale_D)
        return binding.Norm(address(self.gain_D), address(self.bias_D), in_scale, self.eps)


@dataclass(frozen=True, slots=True)
class MatrixWeights:
    """A matrix [N, K] as one block uses it: y = packed(x) + bias + b(a(x)).

    `packed` is from `linear_i8.native` or `linear_i4.native`. `bias_N`, float32, replaces the bias that was packed, for
    blocks that share a matrix and have biases of their own. `lora`, INT8, is a pair a [R, K] and b [N, R] (LoRA, Hu et
    al., arXiv:2106.09685): a reads the rounded rows that the matrix reads, and b rounds the rows that it gets from a.
    """

    packed: Tensor
    bias_N: Tensor | None = None
    lora: tuple[Tensor, Tensor] | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is packed, in the order in which the kernels read it."""
        return (*(self.lora or ()), self.packed)

    @property
    def rank(self) -> int:
        return header_of(self.lora[0])[1] if self.lora else 0

    def check(self, name: str, num_out: int, num_in: int) -> None:
        """Raises ValueError, naming the matrix, unless it is packed and has this shape."""
        check_packed(name, self.packed, (num_out, num_in))
        if self.lora:
            a, b = self.lora
            rank = header_of(a)[1] if header_of(a) else 0
            check_packed(f"{name}.a", a, (rank, num_in), bits=(8,))
            check_packed(f"{name}.b", b, (num_out, rank), bits=(8,))
        if self.bias_N is not None:
            check(f"{name}.bias_N", self.bias_N, torch.float32, (num_out,))

    def placed(self, views: Mapping[int, Tensor]) -> "MatrixWeights":
        """Returns the matrix with its tensors in the places that `views` has for their addresses.

        The bias becomes a whole number of panels long, as the kernels read it.
        """
        bias_N = self.bias_N
        if bias_N is not None:
            bias_N = functional.pad(bias_N, (0, -len(bias_N) % PANEL))
        *lora, packed = (views[tensor.data_ptr()] for tensor in self.tensors)
        return MatrixWeights(packed, bias_N, (lora[0], lora[1]) if lora else None)

    def native(self) -> binding.NativeLinear:
        """Returns the addresses."""
        a, b = map(address, self.lora) if self.lora else (None, None)
        return binding.NativeLinear(address(self.packed), a, b, None if self.bias_N is None else address(self.bias_N))


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The sizes of a block. Query head h reads the keys and values of kv head h / (heads / kv_heads).

    `spans` are numbers of heads, and which keys those see: of all heads, in order. Without any, every head sees all.
    """

    heads: int
    kv_heads: int
    head_width: int
    inner: int
    spans: tuple[tuple[int, KeySpan], ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for heads or spans that do not fit together."""
        if self.heads < 1 or self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv heads evenly")
        if reasons := why_not_spans(self.spans, num_heads=self.heads, num_kv_heads=self.kv_heads):
            raise ValueError("; ".join(reasons))


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """A block: its sizes, its matrices and its two norms.

    qkv is [(heads + 2 * kv_heads) * head_width, D] in the order q, k, v; out is [D, heads * head_width]; up and down
    are [inner, D] and [D, inner]. Blocks that share a matrix have the same packed tensor.
    """

    shape: BlockShape
    qkv: MatrixWeights
    out: MatrixWeights
    norm1: NormWeights
    up: MatrixWeights
    down: MatrixWeights
    norm2: NormWeights

    @property
    def matrices(self) -> tuple[MatrixWeights, ...]:
        """The matrices in the order in which the kernels read them."""
        return (self.qkv, self.out, self.up, self.down)

    def check_matrices(self, width: int) -> None:
        """Raises ValueError, naming the matrix, unless each is packed and has its shape."""
        mixed = self.shape.heads * self.shape.head_width
        self.qkv.check("qkv", mixed + 2 * self.shape.kv_heads * self.shape.head_width, width)
        self.out.check("out", width, mixed)
        self.up.check("up", self.shape.inner, width)
        self.down.check("down", width, self.shape.inner)

    def native(self, width: int) -> binding.NativeBlock:
        """Returns the addresses. Raises like `NormWeights.native`."""
        return binding.NativeBlock(
            head_shape(self.shape.heads, self.shape.kv_heads, self.shape.head_width, self.shape.spans),
            self.shape.inner,
            max(matrix.rank for matrix in self.matrices),
            *(matrix.native() for matrix in self.matrices),
            self.norm1.native("norm1", width),
            self.norm2.native("norm2", width),
        )


def contiguous(blocks: Sequence[BlockWeights], placed: Sequence[Tensor] = ()) -> list[BlockWeights]:
    """Returns the blocks with their matrices in one allocation, in order; a tensor that occurs twice is there once.

    Those of `placed` stay where they are.
    """
    views = {tensor.data_ptr(): tensor for tensor in placed}
    distinct: dict[int, Tensor] = {}
    for matrix in itertools.chain.from_iterable(block.matrices for block in blocks):
        distinct |= {each.data_ptr(): each for each in matrix.tensors if each.data_ptr() not in views}
    if distinct:
        lengths = [len(tensor) for tensor in distinct.values()]
        memory = torch.cat(list(distinct.values()), out=huge_page_tensor(sum(lengths)))
        views |= zip(distinct, torch.split(memory, lengths), strict=True)
    copied: list[BlockWeights] = []
    for block in blocks:
        qkv, out, up, down = (matrix.placed(views) for matrix in block.matrices)
        copied.append(replace(block, qkv=qkv, out=out, up=up, down=down))
    return copied


@dataclass(frozen=True, slots=True)
class RotaryWeights:
    """The cosines and sines by which queries and keys are rotated: float32, C half the width of a head.

    See `kernels.attention.rotary`.
    """

    cos_PC: Tensor
    sin_PC: Tensor

    def native(self, head_widths: Iterable[int]) -> binding.Rotations:
        """Returns the addresses. Raises ValueError for a dtype or shape that does not fit heads of these widths."""
        for width in head_widths:
            check("cos_PC", self.cos_PC, torch.float32, (len(self.cos_PC), width // 2))
            check("sin_PC", self.sin_PC, torch.float32, (len(self.cos_PC), width // 2))
        return binding.Rotations(address(self.cos_PC), address(self.sin_PC))


@dataclass(frozen=True, slots=True)
class EmbeddingWeights:
    """int8 word_VE with a float32 scale_V for each row; float32 position_PD, which includes the segment's embedding.

    With `multiplier_VG`, uint8 for groups of 64 columns, word_VE is INT4: nibbles, uint8 [V, E / 2], as in
    `kernels.linear_i4`. `expand` is a packed matrix [D, E] that widens the words; without one E is D. With `rotary`,
    position_PD has the one row that all positions have.
    """

    word_VE: Tensor
    scale_V: Tensor
    position_PD: Tensor
    norm: NormWeights
    expand: Tensor | None = None
    rotary: RotaryWeights | None = None
    multiplier_VG: Tensor | None = None

    @property
    def width(self) -> int:
        return self.position_PD.shape[1]

    @property
    def word_width(self) -> int:
        return self.word_VE.shape[1] * (1 if self.multiplier_VG is None else 2)

    def integers(self, ids_T: Tensor) -> Tensor:
        """Returns the rows of these words without their scales, float32 [T, E]."""
        word_TE = self.word_VE.index_select(0, ids_T)
        if self.multiplier_VG is not None:
            word_TE = high_plane(word_TE, self.multiplier_VG.index_select(0, ids_T))
        return word_TE.float()

    @property
    def num_positions(self) -> int:
        return len(self.rotary.cos_PC if self.rotary else self.position_PD)

    def native(self) -> binding.NativeEmbedding:
        """Returns the addresses. Raises like `NormWeights.native`."""
        num_words = len(self.word_VE)
        word_width = self.word_width if self.expand is not None else self.width
        if self.multiplier_VG is None:
            check("word_VE", self.word_VE, torch.int8, (num_words, word_width))
        else:
            check("word_VE", self.word_VE, torch.uint8, (num_words, word_width // 2))
            check("multiplier_VG", self.multiplier_VG, torch.uint8, (num_words, word_width // GROUP))
        check("scale_V", self.scale_V, torch.float32, (num_words,))
        num_rows = 1 if self.rotary else len(self.position_PD)
        check("position_PD", self.position_PD, torch.float32, (num_rows, self.width))
        if self.expand is not None:
            check_packed("expand", self.expand, (self.width, word_width))
        return binding.NativeEmbedding(
            num_words,
            address(self.word_VE),
            None if self.multiplier_VG is None else address(self.multiplier_VG),
            address(self.scale_V),
            address(self.position_PD),
            None if self.expand is None else address(self.expand),
            word_width,
            0 if self.rotary else self.width,
            self.norm.native("norm", self.width),
        )
