"""The plan of a model: which matrices, norms and heads each of its blocks has, as records derived from the config.

    StrataConfig --build_plan--> ModelPlan: an EmbeddingPlan, and a BlockPlan for each layer, of MatrixPlans

All code that loops over layers uses the plan: the encoder, its stored weights, the forward passes, calibration and
training. A matrix that several layers share is a single tensor, called a bank, with the name of the lowest of these
layers. Every layer has its own norms, its own biases, and its own low-rank addition to a shared matrix; these have the
name of the layer.

    y = bank(x) + bias + B (A x)        relaxed recursive transformers: Bae et al., arXiv 2410.20672, equation 5

A has the same inputs as the bank, with the same `in_scale`, so it rounds them like the bank.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from kernels.linear_i4.reference import GROUP
from model.config import Activation, Span, StrataConfig
from model.qtensor import N8G64, W8C

FULL = Span(kind="full")


class HeadSpan(NamedTuple):
    """A number of neighbouring attention heads, and the keys to which these heads attend."""

    heads: int
    span: Span


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixPlan:
    """A matrix of one layer, which other layers may use, too.

    - `name`: the name of the tensor with the weight [rows, columns], which is stored in the scheme `scheme`.
    - `path`: the module path of the matrix in this layer. In the lowest layer that uses the weight it equals `name`.
      Below `path` are the layer's bias and, if `lora_rank` is not 0, the low-rank pair `lora_a` [lora_rank, columns]
      and `lora_b` [rows, lora_rank].
    - `in_scale`: whether inputs may be multiplied by a vector [columns] before they are rounded. This vector belongs to
      the weight, and so to the lowest layer that uses the weight.
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
        """The name of the matrix within its layer: `qkv`, `out`, `up`, `down` or `project`."""
        return self.path.rsplit(".", 1)[-1]

    @property
    def is_first(self) -> bool:
        """Whether this is the lowest layer that uses the weight."""
        return self.name == self.path

    @property
    def lora(self) -> dict[str, tuple[int, int]]:
        """The shapes of the low-rank pair A, B by name, in this order; empty if the layer has no pair."""
        if not self.lora_rank:
            return {}
        return {
            f"{self.path}.lora_a": (self.lora_rank, self.columns),
            f"{self.path}.lora_b": (self.rows, self.lora_rank),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """One layer: its sizes, matrices and norms.

    - `qkv`: its rows are all queries, then all keys, then all values: heads + 2 * kv_heads heads, head_width rows each.
    - `inner`: the width inside the feed-forward part. If the unit is gated, `up` has twice as many rows: the rows of
      the gate, to which the activation is applied, and then the rows that the gate multiplies.
    - `spans`: the keys to which each head attends; they cover all heads in order.
    - `rope_base`: if it is given, queries and keys are rotated by their positions (RoPE).
    - `project`: a matrix [d_model, d_model] after the last block.

    Norms are module paths, or None if the block does not have them:

    - `norm1`, `norm2`: normalise the sums after attention and feed-forward part (post-norm), or their inputs
      (pre-norm).
    - `out_norm`, `down_norm`: normalise what attention and feed-forward part add to the sum (sandwich).
    - `q_norm`, `k_norm`: normalise each query and key.
    - `final_norm`: normalises the output of the last block.
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
    project: MatrixPlan | None
    activation: Activation
    is_post_norm: bool
    norm1: str | None
    norm2: str
    out_norm: str | None
    down_norm: str | None
    q_norm: str | None
    k_norm: str | None
    final_norm: str | None

    @property
    def matrices(self) -> tuple[MatrixPlan, ...]:
        project = () if self.project is None else (self.project,)
        return (self.qkv, self.out, self.up, self.down, *project)

    @property
    def norms(self) -> dict[str, int]:
        """The norms that the block has: the width of each by its module path."""
        width = self.out.rows
        widths = {path: width for path in (self.norm1, self.norm2, self.out_norm, self.down_norm) if path}
        widths |= {path: self.head_width for path in (self.q_norm, self.k_norm) if path}
        return widths if self.final_norm is None else widths | {self.final_norm: width}

    @property
    def masked_spans(self) -> tuple[HeadSpan, ...]:
        """The spans of all heads, or () if every head attends to all keys."""
        return self.spans if any(span.kind != "full" for _, span in self.spans) else ()

    @property
    def vectors(self) -> str:
        """The name of the tensor with the norms, biases and input scales of the layer (`model.weights`)."""
        return f"layers.{self.index}.vectors"


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingPlan:
    """The names of the embedding's tensors. `position` is None if queries and keys are rotated instead (RoPE).

    `norm` is None if the sum is not normalised. If `expand` is given, the rows of `word` are narrower than d_model, and
    this matrix widens them.
    """

    word: str
    position: str | None
    segment: str
    norm: str | None
    expand: MatrixPlan | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPlan:
    """The plan of a whole model: the embedding and all layers, from the lowest to the highest."""

    embedding: EmbeddingPlan
    blocks: tuple[BlockPlan, ...]

    @property
    def matrices(self) -> tuple[MatrixPlan, ...]:
        """Every use of a matrix in the blocks, from the lowest block to the highest."""
        return tuple(chain.from_iterable(block.matrices for block in self.blocks))

    @property
    def banks(self) -> tuple[MatrixPlan, ...]:
        """Every matrix of the blocks once, as the lowest layer uses it."""
        return tuple(matrix for matrix in self.matrices if matrix.is_first)


def layer_index(name: str) -> int:
    """Returns the index of the layer that a tensor, parameter or module belongs to; -1 for the embedding.

    >>> layer_index("layers.3.qkv.bias"), layer_index("embed.word")
    (3, -1)
    """
    return int(name.split(".")[1]) if name.startswith("layers.") else -1


def names_at_or_above(names: Iterable[str], layer: int) -> list[str]:
    """Returns the names that belong to layer `layer` or to a higher layer, in order.

    A matrix that a lower layer uses, too, is not among them. So if these tensors change, the results of all lower
    layers stay the same, and need not be computed again.
    """
    return [name for name in names if layer_index(name) >= layer]


@lru_cache(maxsize=256)
def build_plan(config: StrataConfig) -> ModelPlan:
    """Returns the plan of a model. It depends on the config alone, so the latest plans are cached."""
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
        norm="embed.norm" if config.norm_embedding else None,
        expand=expand if is_narrow else None,
    )


def _block(config: StrataConfig, index: int) -> BlockPlan:
    layer = config.layer(index)
    width = config.d_model
    head_width = config.width_of_head
    mixed = layer.heads * head_width
    qkv_rows = mixed + 2 * layer.kv_heads * head_width
    spans = tuple(HeadSpan(heads, config.spans[span]) for heads, span in layer.spans)
    path = f"layers.{index}."
    is_last = index == config.n_layers - 1
    is_post_norm = config.norm_place == "post"
    is_sandwich = config.norm_place == "sandwich"
    # The first attention reads an embedding that is normalised already.
    has_norm1 = is_post_norm or index > 0 or not config.norm_embedding
    return BlockPlan(
        index=index,
        heads=layer.heads,
        kv_heads=layer.kv_heads,
        head_width=head_width,
        inner=layer.d_ff,
        spans=spans or (HeadSpan(layer.heads, FULL),),
        rope_base=layer.rope_base if config.positions == "rope" else None,
        qkv=_matrix(config, index, "qkv", qkv_rows, width),
        out=_matrix(config, index, "out", width, mixed),
        up=_matrix(config, index, "up", layer.d_ff * (1 if config.activation == "gelu" else 2), width),
        down=_matrix(config, index, "down", width, layer.d_ff),
        project=_matrix(config, index, "project", width, width) if config.project and is_last else None,
        activation=config.activation,
        is_post_norm=is_post_norm,
        norm1=f"{path}norm1" if has_norm1 else None,
        norm2=f"{path}norm2",
        out_norm=f"{path}out_norm" if is_sandwich else None,
        down_norm=f"{path}down_norm" if is_sandwich else None,
        q_norm=f"{path}q_norm" if config.norm_heads else None,
        k_norm=f"{path}k_norm" if config.norm_heads else None,
        final_norm=f"{path}final_norm" if is_last and not is_post_norm else None,
    )


def _matrix(config: StrataConfig, index: int, part: str, rows: int, columns: int) -> MatrixPlan:
    """Returns the plan of the matrix `part` of layer `index`.

    Only the matrices whose inputs are a norm's output (`qkv`, `up`, `project`) can have scaled inputs. No layers share
    `project`. If the number of inputs is no multiple of GROUP, the weight has no INT4 plane: it is INT8 in every
    precision.
    """
    banks = [_bank(config, layer, part) for layer in range(config.n_layers)]
    bank = banks[index]
    return MatrixPlan(
        name=f"layers.{bank}.{part}",
        path=f"layers.{index}.{part}",
        rows=rows,
        columns=columns,
        bias=True,
        in_scale=part in ("qkv", "up", "project"),
        lora_rank=config.layer(index).lora_rank if banks.count(bank) > 1 else 0,
        scheme=N8G64 if columns % GROUP == 0 else W8C,
    )


def _bank(config: StrataConfig, index: int, part: str) -> int:
    """Returns the lowest layer that has the same matrix `part` as layer `index`."""
    layer = config.layer(index)
    match part:
        case "qkv" | "out":
            return layer.attention
        case "up" | "down":
            return layer.ffn
    return index
