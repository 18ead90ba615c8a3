"""The records from which `Encoder` is made, and how they become the records that the kernels read.

    BlockWeights --contiguous--> BlockWeights in one allocation --checked, addresses--> binding.NativeBlock

All matrices are copied into one allocation, in the order in which they are read, so that a kernel prefetches the matrix
that comes next. A matrix that several blocks share is held once.

Shape suffixes: V vocabulary, P positions, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.allocator import huge_page_tensor
from kernels.native import address, binding


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
class EmbeddingWeights:
    """int8 word_VD with a float32 scale_V for each row; float32 position_PD, which includes the segment's embedding."""

    word_VD: Tensor
    scale_V: Tensor
    position_PD: Tensor
    norm: NormWeights

    def native(self) -> binding.NativeEmbedding:
        """Returns the addresses. Raises like `NormWeights.native`."""
        num_words, width = self.word_VD.shape
        check("word_VD", self.word_VD, torch.int8, (num_words, width))
        check("scale_V", self.scale_V, torch.float32, (num_words,))
        check("position_PD", self.position_PD, torch.float32, (len(self.position_PD), width))
        tables = (self.word_VD, self.scale_V, self.position_PD)
        return binding.NativeEmbedding(num_words, *map(address, tables), self.norm.native("norm", width))


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The sizes of a block. Query head h reads the keys and values of kv head h / (heads / kv_heads)."""

    heads: int
    kv_heads: int
    head_width: int
    inner: int

    def __post_init__(self) -> None:
        if self.heads < 1 or self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv heads evenly")


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """A block: its sizes, its matrices, packed by `linear_i8.native` or `linear_i4.native`, and its two norms.

    qkv is [(heads + 2 * kv_heads) * head_width, D] in the order q, k, v; out is [D, heads * head_width]; up and down
    are [inner, D] and [D, inner]. Blocks that share a matrix have the same tensor.
    """

    shape: BlockShape
    qkv: Tensor
    out: Tensor
    norm1: NormWeights
    up: Tensor
    down: Tensor
    norm2: NormWeights

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        """The matrices in the order in which the kernels read them."""
        return (self.qkv, self.out, self.up, self.down)

    def check_matrices(self, width: int) -> None:
        """Raises ValueError, naming the matrix, unless each is packed and has its shape."""
        mixed = self.shape.heads * self.shape.head_width
        shapes = {
            "qkv": (mixed + 2 * self.shape.kv_heads * self.shape.head_width, width),
            "out": (width, mixed),
            "up": (self.shape.inner, width),
            "down": (width, self.shape.inner),
        }
        for name, shape in shapes.items():
            _check_packed(name, getattr(self, name), shape)

    def native(self, width: int) -> binding.NativeBlock:
        """Returns the addresses. Raises like `NormWeights.native`."""
        return binding.NativeBlock(
            binding.HeadShape(self.shape.heads, self.shape.kv_heads, self.shape.head_width),
            self.shape.inner,
            *map(address, self.matrices),
            self.norm1.native("norm1", width),
            self.norm2.native("norm2", width),
        )


def contiguous(blocks: Sequence[BlockWeights]) -> list[BlockWeights]:
    """Returns the blocks with their matrices in one allocation, in order; a tensor that occurs twice is there once."""
    distinct: dict[int, Tensor] = {}
    for block in blocks:
        distinct |= {matrix.data_ptr(): matrix for matrix in block.matrices}
    lengths = [len(matrix) for matrix in distinct.values()]
    memory = torch.cat(list(distinct.values()), out=huge_page_tensor(sum(lengths)))
    views = dict(zip(distinct, torch.split(memory, lengths), strict=True))
    copied: list[BlockWeights] = []
    for block in blocks:
        qkv, out, up, down = (views[matrix.data_ptr()] for matrix in block.matrices)
        copied.append(replace(block, qkv=qkv, out=out, up=up, down=down))
    return copied


def check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the tensor is dense and has this dtype and shape."""
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected dense {dtype} {list(shape)}")


def _check_packed(name: str, packed: Tensor, shape: tuple[int, int]) -> None:
    """Raises ValueError unless the header of the packed weight says this shape: its bits, outputs and inputs."""
    header: list[int] = []
    if packed.dtype == torch.uint8 and len(packed) >= 12:
        header = packed[:12].view(torch.int32).tolist()
    if header not in ([8, *shape], [4, *shape]):
        raise ValueError(f"{name} is packed as {header}; expected 8 or 4 bits, {shape[0]} outputs, {shape[1]} inputs")
