"""Counts the cost of a model from its config: stored parameters, bytes, and floating-point operations for a text.

    StrataConfig --plan--> matrices, banks, spans --> Parameters, num_bytes, Flops        tasks: several tasks

A bank is a matrix that several layers may use: it is stored once, and every layer computes with it. The counts are
exact: each pair of a query and a visible key costs 4 operations for each channel of a head (multiply and add, once for
the score and once for the value). Softmax, norms and GELU are left out, as is usual (Kaplan et al., arXiv 2001.08361,
table 1).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kernels.linear_i4.reference import GROUP
from model.config import LayerSpec, Span, StrataConfig
from model.plan import BlockPlan, MatrixPlan, build_plan
from model.qtensor import FP32, N8G64, W4G64, W8C

BF16 = "bf16"

ROW_BYTES = 6
"""The bytes for each row of a quantized matrix: its scale (float16) and the sum of its integers (int32)."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The numbers of stored parameters. `vectors` are the biases and norms of the layers."""

    embedding: int
    attention: int
    feed_forward: int
    lora: int
    vectors: int

    @property
    def total(self) -> int:
        return self.embedding + self.attention + self.feed_forward + self.lora + self.vectors


@dataclass(frozen=True, slots=True)
class Flops:
    """The floating-point operations for one text. `routing` is the choice of key blocks in `topk` spans."""

    matrices: int
    attention: int
    routing: int

    @property
    def total(self) -> int:
        return self.matrices + self.attention + self.routing


@dataclass(frozen=True, slots=True)
class TaskCosts:
    """The cost of several tasks that share a trunk, compared with separate models.

    `stored` and `separate` are the numbers of parameters with a shared trunk and of separate models.
    """

    stored: int
    separate: int
    compute: float
    """The matrix operations on a token for all tasks, as a multiple of the operations for one task."""

    @property
    def saved(self) -> float:
        """The fraction of the stored parameters that the trunk saves, in [0, 1)."""
        return 1 - self.stored / self.separate


def parameters(config: StrataConfig) -> Parameters:
    """Counts the stored parameters of the encoder, without a classification head."""
    plan = build_plan(config)
    sizes = {matrix.name: matrix.rows * matrix.columns for matrix in plan.banks}
    feed_forward = sum(size for name, size in sizes.items() if name.endswith((".up", ".down")))
    return Parameters(
        embedding=sum(rows * columns for _, rows, columns in _embedding(config)) + _embedding_norm(config),
        attention=sum(sizes.values()) - feed_forward,
        feed_forward=feed_forward,
        lora=sum(matrix.lora_rank * (matrix.rows + matrix.columns) for matrix in plan.matrices),
        vectors=sum(_vectors(block) for block in plan.blocks),
    )


def num_bytes(config: StrataConfig, scheme: str | None = None) -> int:
    """Counts the bytes of the stored encoder: in its own schemes, or with all matrices in `scheme`.

    Biases, norms and input scales are always float32.
    """
    plan = build_plan(config)
    total = sum(matrix_bytes(scheme or stored, *shape) for stored, *shape in _embedding(config))
    for matrix in plan.banks:
        total += matrix_bytes(scheme or matrix.scheme, matrix.rows, matrix.columns)
        total += 4 * matrix.columns if matrix.in_scale else 0
    for matrix in plan.matrices:
        total += sum(matrix_bytes(scheme or W8C, *shape) for shape in matrix.lora.values())
    vectors = _embedding_norm(config) + sum(_vectors(block) for block in plan.blocks)
    return total + 4 * vectors


def matrix_bytes(scheme: str, rows: int, columns: int) -> int:
    """Counts the bytes of a matrix without its bias: floats, or integers with multipliers, scales and row sums.

    >>> round(8 * matrix_bytes("w4g64", 1536, 384) / (1536 * 384), 3)
    4.25
    """
    size = rows * columns
    multipliers = rows * math.ceil(columns / GROUP)
    match scheme:
        case "fp32":
            return 4 * size
        case "bf16":
            return 2 * size
        case "w8c":
            return size + ROW_BYTES * rows
        case "n8g64":
            return size + multipliers + ROW_BYTES * rows
        case "w4g64":
            return size // 2 + multipliers + ROW_BYTES * rows
    raise ValueError(f"scheme is {scheme!r}; expected one of {', '.join((FP32, BF16, W8C, N8G64, W4G64))}")


def flops(config: StrataConfig, num_tokens: int) -> Flops:
    """Counts the operations of the encoder on one text of `num_tokens` tokens."""
    attention = 0
    routing = 0
    for block in build_plan(config).blocks:
        for heads, span in block.spans:
            attention += 4 * heads * block.head_width * pairs_seen(span, num_tokens)
            routing += 4 * heads * block.head_width * _blocks_scored(span, num_tokens)
    return Flops(num_tokens * sum(_matrix_flops(config)), attention, routing)


def pairs_seen(span: Span, num_tokens: int) -> int:
    """Counts the pairs of a query and a key that the query sees, in a text of `num_tokens` tokens."""
    all_pairs = num_tokens * num_tokens
    if span.kind == "full" or num_tokens < span.dense_below:
        return all_pairs
    near = sum(_keys_near(span, num_tokens, query) for query in range(num_tokens))
    return min(near + num_tokens * span.topk * span.block, all_pairs)


def tasks(config: StrataConfig, num_tasks: int, *, depth: int, separate: StrataConfig) -> TaskCosts:
    """Counts the cost of `num_tasks` tasks that share the `depth` lower layers, and of a separate model for each task.

    `separate` is the config of the separate models.
    """
    whole = parameters(config).total
    shared = parameters(_trunk(config, depth)).total
    # The first entry is the embedding.
    per_layer = list(_matrix_flops(config))[1:]
    own = sum(per_layer[depth:])
    return TaskCosts(
        stored=shared + num_tasks * (whole - shared),
        separate=num_tasks * parameters(separate).total,
        compute=1 + (num_tasks - 1) * own / sum(_matrix_flops(config)),
    )


def _trunk(config: StrataConfig, depth: int) -> StrataConfig:
    layers: tuple[LayerSpec, ...] = tuple(config.layer(index) for index in range(depth))
    return replace(config, n_layers=depth, layers=layers)


def _embedding(config: StrataConfig) -> Iterator[tuple[str, int, int]]:
    """Yields (scheme, rows, columns) of each table and matrix of the embedding."""
    plan = build_plan(config).embedding
    yield W8C, config.vocab, config.embed_dim if plan.expand else config.d_model
    if plan.expand is not None:
        yield plan.expand.scheme, plan.expand.rows, plan.expand.columns
    if plan.position is not None:
        yield W8C, config.max_pos, config.d_model
    yield W8C, config.type_vocab, config.d_model


def _embedding_norm(config: StrataConfig) -> int:
    return 2 * config.d_model if config.norm_embedding else 0


def _vectors(block: BlockPlan) -> int:
    biases = sum(matrix.rows for matrix in block.matrices if matrix.bias)
    return biases + 2 * sum(block.norms.values())


def _matrix_flops(config: StrataConfig) -> Iterator[int]:
    """Yields the matrix operations on one token: first for the embedding, then for each layer."""
    plan = build_plan(config)
    expand = plan.embedding.expand
    yield 0 if expand is None else _product_flops(expand)
    for block in plan.blocks:
        yield sum(_product_flops(matrix) for matrix in block.matrices)


def _product_flops(matrix: MatrixPlan) -> int:
    lora = matrix.lora_rank * (matrix.rows + matrix.columns)
    return 2 * (matrix.rows * matrix.columns + lora)


def _keys_near(span: Span, num_tokens: int, query: int) -> int:
    """Counts the keys in the window around a query, and the attention sinks outside the window."""
    first = max(0, query - span.window)
    end = min(num_tokens, query + span.window + 1)
    return end - first + min(span.sinks, first)


def _blocks_scored(span: Span, num_tokens: int) -> int:
    """Counts the pairs of a query and a block of keys. For each, the router computes an upper bound of the scores."""
    if span.kind != "topk" or num_tokens < span.dense_below:
        return 0
    return num_tokens * math.ceil(num_tokens / span.block)
