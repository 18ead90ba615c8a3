"""The plan of a model: which matrices, norms and heads each of its blocks has, as pure records made of a config.

    StrataConfig --plan_of--> ModelPlan: an EmbeddingPlan, and a BlockPlan for each layer, of MatrixPlans

Whatever loops over layers (the encoder, its stored weights, the forwards, calibration, training) reads the plan. A
matrix that several layers use is one tensor, which is named after the lowest of them. What a layer has for itself
(norms, biases, its low-rank addition to a shared matrix) is named after that layer.

    y = bank(x) + bias + B (A x)        relaxed recursive transformers: Bae et al., arXiv 2410.20672, equation 5

A pair A, B rounds its inputs as the matrix beside it does: A reads what the matrix reads, with the same `in_scale`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import NamedTuple

from kernels.linear_i4.reference import GROUP
from model.config import Span, StrataConfig
from model.qtensor import N8G64, W8C

FULL = Span(kind="full")


class HeadSpan(NamedTuple):
    """A number of heads, and the keys that they see."""

    heads: int
    span: Span


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixPlan:
    """A matrix as one layer uses it. Its weight [rows, columns] is the tensor `name`, of the scheme `scheme`.

    `path` is the layer's own name of it, which is `name` in the first of the layers that use it. Below `path` are the
    layer's bias, and the pair `lora_a` [lora_rank, columns] and `lora_b` [rows, lora_rank] where `lora_rank` is not 0.
    Where `in_scale` is true, inputs may be multiplied by a vector [columns] before they are rounded. It belongs to the
    weight, and so to the first layer that uses it.
    """

    name: str
    path: str
    rows: int
    columns: int
    bias: bool
    in_scale: bool
    lora_rank: int
    scheme: str

    @property
    def part(self) -> str:
        """Its name within the layer: `qkv`, `out`, `up` or `down`."""
        return self.path.rsplit(".", 1)[-1]

    @property
    def is_first(self) -> bool:
        """Whether no layer below uses this weight."""
        return self.name == self.path

    @property
    def lora(self) -> dict[str, tuple[int, int]]:
        """The names and shapes of the pair A, B, in this order; empty without one."""
        if not self.lora_rank:
            return {}
        return {
            f"{self.path}.lora_a": (self.lora_rank, self.columns),
            f"{self.path}.lora_b": (self.rows, self.lora_rank),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """One layer. `qkv` has the rows of all queries, then keys, then values: heads + 2 * kv_heads, each head_width.

    `spans` are those of all heads in order. Queries and keys are rotated by their positions where `rope_base` is given.
    """

    index: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    spans: tuple[HeadSpan, ...]
    rope_base: float | None
    qkv: MatrixPlan
    out: MatrixPlan
    up: MatrixPlan
    down: MatrixPlan
    norm1: str
    norm2: str

    @property
    def matrices(self) -> tuple[MatrixPlan, ...]:
        return (self.qkv, self.out, self.up, self.down)

    @property
    def masked_spans(self) -> tuple[HeadSpan, ...]:
        """The spans of all heads, or () where every head sees all keys."""
        return self.spans if any(span.kind != "full" for _, span in self.spans) else ()

    @property
    def vectors(self) -> str:
        """The name of the tensor with the norms, biases and input scales of the layer (`model.weights`)."""
        return f"layers.{self.index}.vectors"


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingPlan:
    """The names of the embedding's tensors. `position` is None where queries and keys are rotated instead.

    With `expand`, rows of `word` are narrower, and that matrix widens them.
    """

    word: str
    position: str | None
    segment: str
    norm: str
    expand: MatrixPlan | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPlan:
    embedding: EmbeddingPlan
    blocks: tuple[BlockPlan, ...]

    @property
    def matrices(self) -> tuple[MatrixPlan, ...]:
        """Every use of a matrix in the blocks, from the lowest on."""
        return tuple(chain.from_iterable(block.matrices for block in self.blocks))

    @property
    def banks(self) -> tuple[MatrixPlan, ...]:
        """Every matrix of the blocks once, as its first layer uses it."""
        return tuple(matrix for matrix in self.matrices if matrix.is_first)


def layer_of(name: str) -> int:
    """Returns the index of the layer that a tensor, parameter or module belongs to; -1 for the embedding's.

    >>> layer_of("layers.3.qkv.bias"), layer_of("embed.word")
    (3, -1)
    """
    return int(name.split(".")[1]) if name.startswith("layers.") else -1


def names_from(names: Iterable[str], layer: int) -> list[str]:
    """Returns the names of what belongs to layer `layer` or one above, in order.

    A matrix that a layer below uses too is not among them. So what these names change leaves all layers below as they
    are, and their results need not be computed again.
    """
    return [name for name in names if layer_of(name) >= layer]


@cache
def plan_of(config: StrataConfig) -> ModelPlan:
    """Returns the plan of a model, which is a function of its config alone."""
    blocks = tuple(_block(config, index) for index in range(config.n_layers))
    return ModelPlan(embedding=_embedding(config), blocks=blocks)


def _embedding(config: StrataConfig) -> EmbeddingPlan:
    is_narrow = config.embed_dim not in (0, config.d_model)
    expand = MatrixPlan(
        name="embed.expand",
        path="embed.expand",
        rows=config.d_model,
        columns=config.embed_dim,
        bias=False,
        in_scale=False,
        lora_rank=0,
        scheme=W8C,
    )
    return EmbeddingPlan(
        word="embed.word",
        position=None if config.positions == "rope" else "embed.position",
        segment="embed.type",
        norm="embed.norm",
        expand=expand if is_narrow else None,
    )


def _block(config: StrataConfig, index: int) -> BlockPlan:
    layer = config.layer(index)
    width = config.d_model
    head_width = config.width_of_head
    mixed = layer.heads * head_width
    qkv_rows = mixed + 2 * layer.kv_heads * head_width
    spans = tuple(HeadSpan(heads, config.spans[place]) for heads, place in layer.spans)
    return BlockPlan(
        index=index,
        heads=layer.heads,
        kv_heads=layer.kv_heads,
        head_width=head_width,
        inner=layer.d_ff,
        spans=spans or (HeadSpan(layer.heads, FULL),),
        rope_base=config.rope_base if config.positions == "rope" else None,
        qkv=_matrix(config, index, "qkv", qkv_rows, width),
        out=_matrix(config, index, "out", width, mixed),
        up=_matrix(config, index, "up", layer.d_ff, width),
        down=_matrix(config, index, "down", width, layer.d_ff),
        norm1=f"layers.{index}.norm1",
        norm2=f"layers.{index}.norm2",
    )


def _matrix(config: StrataConfig, index: int, part: str, rows: int, columns: int) -> MatrixPlan:
    """Returns the plan of `part` of layer `index`. The readers of a norm's output can have their inputs scaled.

    A matrix whose inputs are not whole groups has no INT4 weights inside: it is INT8 in every precision.
    """
    is_attention = part in ("qkv", "out")
    banks = [_bank(config, place, is_attention=is_attention) for place in range(config.n_layers)]
    bank = banks[index]
    return MatrixPlan(
        name=f"layers.{bank}.{part}",
        path=f"layers.{index}.{part}",
        rows=rows,
        columns=columns,
        bias=True,
        in_scale=part in ("qkv", "up"),
        lora_rank=config.layer(index).lora_rank if banks.count(bank) > 1 else 0,
        scheme=N8G64 if columns % GROUP == 0 else W8C,
    )


def _bank(config: StrataConfig, index: int, *, is_attention: bool) -> int:
    """Returns the lowest layer that uses the attention, or else the feed-forward matrices, of layer `index`."""
    layer = config.layer(index)
    return layer.attention if is_attention else layer.ffn
