"""The weights of an `EncoderKernel`, embedding and blocks, and their conversion to the records of the kernels.

    EmbeddingWeights --check, take addresses--> binding.NativeEmbedding
    BlockWeights --copy_contiguously--> BlockWeights in one allocation --check, take addresses--> binding.NativeBlock

All matrices are copied into one allocation, in the order in which they are read, so that a kernel can prefetch the next
matrix. A matrix that several blocks share is stored once, and a matrix that belongs to another encoder is not copied.
The kernels check nothing, so every tensor is checked here.

Shape suffixes: T tokens, V vocabulary, E width of a word, G its groups, P positions, D width, C half the width of a
head, N outputs, K inputs, R rank.
"""

import itertools
from collections.abc import Mapping, Sequence
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
    """Raises ValueError, naming the tensor, unless the tensor is dense and has this dtype and shape."""
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected dense {dtype} {list(shape)}")


def check_packed(name: str, packed: Tensor, shape: tuple[int, int], *, bits: Sequence[int] = (8, 4)) -> None:
    """Raises ValueError unless the header of a packed weight has this shape [N, K] and one of these `bits`."""
    header = read_header(packed)
    if header not in [[each, *shape] for each in bits]:
        raise ValueError(
            f"{name} is packed as {header}; "
            f"expected {' or '.join(map(str, bits))} bits, {shape[0]} outputs, {shape[1]} inputs"
        )


def read_header(packed: Tensor) -> list[int]:
    """Returns [bits, outputs, inputs] of a packed weight; [] if the tensor is not a packed weight."""
    is_packed = packed.dtype == torch.uint8 and len(packed) >= 12
    return packed[:12].view(torch.int32).tolist() if is_packed else []


PANEL = 64
"""Outputs in a panel of a packed weight (source/weight.h)."""


@dataclass(frozen=True, slots=True)
class NormWeights:
    """Layer normalisation over D: float32 gain_D and bias_D. With `is_rms` (RMSNorm), the mean is not subtracted.

    If `in_scale_D` is given, the normalised row is multiplied by it before the row is rounded for the next matrix. The
    residual sum gets the row without this factor.
    """

    gain_D: Tensor
    bias_D: Tensor
    eps: float
    in_scale_D: Tensor | None = None
    is_rms: bool = False

    def native(self, name: str, width: int) -> binding.Norm:
        """Returns the record of the kernels. Raises ValueError, naming the weight, for another dtype or shape."""
        check(f"{name}.gain_D", self.gain_D, torch.float32, (width,))
        check(f"{name}.bias_D", self.bias_D, torch.float32, (width,))
        if self.in_scale_D is not None:
            check(f"{name}.in_scale_D", self.in_scale_D, torch.float32, (width,))
        in_scale = None if self.in_scale_D is None else address(self.in_scale_D)
        return binding.Norm(address(self.gain_D), address(self.bias_D), in_scale, self.eps, self.is_rms)


@dataclass(frozen=True, slots=True)
class MatrixWeights:
    """A matrix [N, K] as one block uses it: y = packed(x) + bias + b(a(x)).

    `packed` is the result of `pack_weight` of `linear_i8.native` or `linear_i4.native`. `bias_N`, float32, replaces the
    bias that was packed with the matrix: blocks that share a matrix have their own biases. `lora`, INT8, is a pair a
    [R, K] and b [N, R] (LoRA, Hu et al., arXiv:2106.09685): a reads the same rounded rows as the matrix, and the
    results of a are rounded for b.
    """

    packed: Tensor
    bias_N: Tensor | None = None
    lora: tuple[Tensor, Tensor] | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The packed tensors, in the order in which the kernels read them."""
        return (*(self.lora or ()), self.packed)

    @property
    def rank(self) -> int:
        """The rank R of the low-rank pair; 0 without one."""
        return read_header(self.lora[0])[1] if self.lora else 0

    def check(self, name: str, num_out: int, num_in: int) -> None:
        """Raises ValueError, naming the matrix, unless it is packed and has the shape [num_out, num_in]."""
        check_packed(name, self.packed, (num_out, num_in))
        if self.lora:
            a, b = self.lora
            rank = read_header(a)[1] if read_header(a) else 0
            check_packed(f"{name}.a", a, (rank, num_in), bits=(8,))
            check_packed(f"{name}.b", b, (num_out, rank), bits=(8,))
        if self.bias_N is not None:
            check(f"{name}.bias_N", self.bias_N, torch.float32, (num_out,))

    def relocate(self, views: Mapping[int, Tensor]) -> "MatrixWeights":
        """Returns the same matrix with its packed tensors at new addresses.

        `views` maps the old address of a packed tensor to its copy.
        """
        bias_N = self.bias_N
        if bias_N is not None:
            # The kernels read whole panels of the bias.
            bias_N = functional.pad(bias_N, (0, -len(bias_N) % PANEL))
        *lora, packed = (views[tensor.data_ptr()] for tensor in self.tensors)
        return MatrixWeights(packed, bias_N, (lora[0], lora[1]) if lora else None)

    def native(self) -> binding.NativeLinear:
        """Returns the record of the kernels."""
        a, b = map(address, self.lora) if self.lora else (None, None)
        bias = None if self.bias_N is None else address(self.bias_N)
        return binding.NativeLinear(address(self.packed), a, b, bias)


ACTIVATIONS = ("gelu", "geglu", "geglu_tanh", "swiglu")
"""What may follow `up`, in the order of the enumeration in source/api.h. The last three are gated units."""


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The sizes of a block. Query head h reads the keys and values of kv head h / (heads / kv_heads).

    `inner` is the width inside the feed-forward part, and `activation` one of ACTIVATIONS. `spans` are pairs of a
    number of heads and the keys that these heads attend to, for all heads in order. Without spans, every head attends
    to all keys. Raises ValueError for heads or spans that do not fit together, and for an unknown activation.
    """

    heads: int
    kv_heads: int
    head_width: int
    inner: int
    spans: tuple[tuple[int, KeySpan], ...] = ()
    activation: str = "gelu"

    def __post_init__(self) -> None:
        if self.heads < 1 or self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv heads evenly")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        if reasons := why_not_spans(self.spans, num_heads=self.heads, num_kv_heads=self.kv_heads):
            raise ValueError("; ".join(reasons))

    @property
    def up_rows(self) -> int:
        """The number of outputs of `up`: a gated unit has those of the gate, and those that the gate multiplies."""
        return self.inner * (1 if self.activation == "gelu" else 2)


@dataclass(frozen=True, slots=True)
class RotaryWeights:
    """The cosines and sines by which queries and keys are rotated: float32 [P, C], C half the width of a head.

    `kernels.attention.rotary.rotations` computes them.
    """

    cos_PC: Tensor
    sin_PC: Tensor

    def native(self, head_width: int) -> binding.Rotations:
        """Returns the record of the kernels. Raises ValueError for a dtype or shape that does not fit these heads."""
        check("cos_PC", self.cos_PC, torch.float32, (len(self.cos_PC), head_width // 2))
        check("sin_PC", self.sin_PC, torch.float32, (len(self.cos_PC), head_width // 2))
        return binding.Rotations(address(self.cos_PC), address(self.sin_PC))


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """A block: its sizes, its matrices and its norms. `Block` in source/api.h says where the norms stand.

    qkv is [(heads + 2 * kv_heads) * head_width, D] in the order q, k, v; out is [D, heads * head_width]; up and down
    are [inner, D] and [D, inner], and up is [2 * inner, D] if the unit is gated; project is [D, D]. Blocks that share a
    matrix have the same packed tensor. The norms of queries and keys are [head_width].
    """

    shape: BlockShape
    qkv: MatrixWeights
    out: MatrixWeights
    norm1: NormWeights | None
    up: MatrixWeights
    down: MatrixWeights
    norm2: NormWeights
    is_post_norm: bool = True
    out_norm: NormWeights | None = None
    down_norm: NormWeights | None = None
    q_norm: NormWeights | None = None
    k_norm: NormWeights | None = None
    final_norm: NormWeights | None = None
    project: MatrixWeights | None = None
    rotary: RotaryWeights | None = None

    @property
    def matrices(self) -> tuple[MatrixWeights, ...]:
        """The matrices in the order in which the kernels read them."""
        project = () if self.project is None else (self.project,)
        return (self.qkv, self.out, self.up, self.down, *project)

    def relocate(self, views: Mapping[int, Tensor]) -> "BlockWeights":
        """Returns the same block with its packed tensors at new addresses, as `MatrixWeights.relocate`."""
        qkv, out, up, down, *project = (matrix.relocate(views) for matrix in self.matrices)
        return replace(self, qkv=qkv, out=out, up=up, down=down, project=project[0] if project else None)

    def check_matrices(self, width: int) -> None:
        """Raises ValueError, naming the matrix, unless every matrix is packed and has the shape that its role needs."""
        mixed = self.shape.heads * self.shape.head_width
        self.qkv.check("qkv", mixed + 2 * self.shape.kv_heads * self.shape.head_width, width)
        self.out.check("out", width, mixed)
        self.up.check("up", self.shape.up_rows, width)
        self.down.check("down", width, self.shape.inner)
        if self.project is not None:
            self.project.check("project", width, width)

    def native(self, width: int) -> binding.NativeBlock:
        """Returns the record of the kernels. Raises like `NormWeights.native`."""
        norms: list[binding.Norm] = []
        for name in binding.BLOCK_NORMS:
            norm: NormWeights | None = getattr(self, name)
            norm_width = self.shape.head_width if name in ("q_norm", "k_norm") else width
            norms.append(binding.Norm() if norm is None else norm.native(name, norm_width))
        return binding.NativeBlock(
            head_shape(self.shape.heads, self.shape.kv_heads, self.shape.head_width, self.shape.spans),
            self.shape.inner,
            max(matrix.rank for matrix in self.matrices),
            ACTIVATIONS.index(self.shape.activation),
            self.is_post_norm,
            *(matrix.native() for matrix in (self.qkv, self.out, self.up, self.down)),
            binding.NativeLinear() if self.project is None else self.project.native(),
            *norms,
            binding.Rotations() if self.rotary is None else self.rotary.native(self.shape.head_width),
        )


def copy_contiguously(blocks: Sequence[BlockWeights], shared: Sequence[Tensor] = ()) -> list[BlockWeights]:
    """Returns the blocks with their matrices copied into one allocation, in the order in which the kernels read them.

    A tensor that occurs twice is copied once. The tensors in `shared` are not copied.
    """
    views = {tensor.data_ptr(): tensor for tensor in shared}
    distinct: dict[int, Tensor] = {}
    for matrix in itertools.chain.from_iterable(block.matrices for block in blocks):
        distinct |= {each.data_ptr(): each for each in matrix.tensors if each.data_ptr() not in views}
    if distinct:
        lengths = [len(tensor) for tensor in distinct.values()]
        memory = torch.cat(list(distinct.values()), out=huge_page_tensor(sum(lengths)))
        views |= zip(distinct, torch.split(memory, lengths), strict=True)
    return [block.relocate(views) for block in blocks]


@dataclass(frozen=True, slots=True)
class EmbeddingWeights:
    """The embedding: int8 word_VE with a float32 scale_V for each row, float32 position_PD, and a norm.

    - position_PD includes the segment's embedding. If queries and keys are rotated, it has one row, which all positions
      share.
    - `norm` is None if the sum is not normalised.
    - With `multiplier_VG`, uint8 for groups of 64 columns, word_VE is INT4: nibbles, uint8 [V, E / 2], as in
      `kernels.linear_i4`.
    - `expand` is a packed matrix [D, E] that widens the words. Without it, E is D.
    """

    word_VE: Tensor
    scale_V: Tensor
    position_PD: Tensor
    norm: NormWeights | None
    expand: Tensor | None = None
    multiplier_VG: Tensor | None = None

    @property
    def width(self) -> int:
        """The width D of a token."""
        return self.position_PD.shape[1]

    @property
    def word_width(self) -> int:
        """The width E of a word, before `expand`."""
        return self.word_VE.shape[1] * (1 if self.multiplier_VG is None else 2)

    def integers(self, ids_T: Tensor) -> Tensor:
        """Returns the unscaled integers of the words `ids_T`, int64, as float32 [T, E]."""
        word_TE = self.word_VE.index_select(0, ids_T)
        if self.multiplier_VG is not None:
            word_TE = high_plane(word_TE, self.multiplier_VG.index_select(0, ids_T))
        return word_TE.float()

    def native(self) -> binding.NativeEmbedding:
        """Returns the record of the kernels. Raises like `NormWeights.native`."""
        num_words = len(self.word_VE)
        word_width = self.word_width if self.expand is not None else self.width
        if self.multiplier_VG is None:
            check("word_VE", self.word_VE, torch.int8, (num_words, word_width))
        else:
            check("word_VE", self.word_VE, torch.uint8, (num_words, word_width // 2))
            check("multiplier_VG", self.multiplier_VG, torch.uint8, (num_words, word_width // GROUP))
        check("scale_V", self.scale_V, torch.float32, (num_words,))
        check("position_PD", self.position_PD, torch.float32, (len(self.position_PD), self.width))
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
            self.width if len(self.position_PD) > 1 else 0,
            binding.Norm() if self.norm is None else self.norm.native("norm", self.width),
        )
