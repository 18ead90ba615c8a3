"""What a model costs, counted from its config: stored parameters, bytes, and floating-point operations of a text.

    StrataConfig --plan--> matrices, banks, spans --> Parameters, num_bytes, Flops        tasks: what T of them cost

A matrix that several layers use is stored once and computed with by each. Counts are exact for the definition: a query
and a key that it sees cost 4 operations for each channel of a head (product and sum, for the score and for the value).
Softmax, norms and GELU are left out, as is usual (Kaplan et al., arXiv 2001.08361, table 1).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kernels.linear_i4.reference import GROUP
from model.config import LayerSpec, Span, StrataConfig
from model.plan import BlockPlan, MatrixPlan, plan_of
from model.qtensor import FP32, N8G64, W4G64, W8C

BF16 = "bf16"

PER_ROW = 6
"""Bytes of a row's scale (float16) and of the sum of its integers (int32)."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of stored parameters. `vectors` are biases and norms of the layers."""

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
    """Floating-point operations of one text: of the matrices, of attention, and of choosing the blocks of `topk`."""

    matrices: int
    attention: int
    routing: int

    @property
    def total(self) -> int:
        return self.matrices + self.attention + self.routing


@dataclass(frozen=True, slots=True)
class Tasks:
    """What several tasks on one trunk cost, beside one task alone and as many separate models."""

    stored: int
    separate: int
    compute: float
    """Matrix operations of a token for all tasks, as a multiple of one task's."""

    @property
    def saved(self) -> float:
        """Share of the stored parameters that the trunk saves, in [0, 1)."""
        return 1 - self.stored / self.separate


def parameters(config: StrataConfig) -> Parameters:
    """Counts the stored parameters of the encoder; a head on it is not a part of it."""
    plan = plan_of(config)
    sizes = {matrix.name: matrix.rows * matrix.columns for matrix in plan.banks}
    feed_forward = sum(size for name, size in sizes.items() if name.endswith((".up", ".down")))
    return Parameters(
        embedding=sum(rows * columns for _, rows, columns in _embedding(config)) + 2 * config.d_model,
        attention=sum(sizes.values()) - feed_forward,
        feed_forward=feed_forward,
        lora=sum(matrix.lora_rank * (matrix.rows + matrix.columns) for matrix in plan.matrices),
        vectors=sum(_vectors(block, config.d_model) for block in plan.blocks),
    )


def num_bytes(config: StrataConfig, scheme: str | None = None) -> int:
    """Counts the bytes of the stored encoder, in its own schemes, or with all of its matrices in `scheme`.

    Biases and norms are float32 in either case, and so are the scales of inputs.
    """
    plan = plan_of(config)
    total = sum(matrix_bytes(scheme or stored, *shape) for stored, *shape in _embedding(config))
    for matrix in plan.banks:
        total += matrix_bytes(scheme or matrix.scheme, matrix.rows, matrix.columns)
        total += 4 * matrix.columns if matrix.in_scale else 0
    for matrix in plan.matrices:
        total += sum(matrix_bytes(scheme or W8C, *shape) for shape in matrix.lora.values())
    vectors = 2 * config.d_model + sum(_vectors(block, config.d_model) for block in plan.blocks)
    return total + 4 * vectors


def matrix_bytes(scheme: str, rows: int, columns: int) -> int:
    """Counts the bytes of a matrix without its bias: integers, multipliers, scales and sums, or floats.

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
            return size + PER_ROW * rows
        case "n8g64":
            return size + multipliers + PER_ROW * rows
        case "w4g64":
            return size // 2 + multipliers + PER_ROW * rows
    raise ValueError(f"scheme is {scheme!r}; expected one of {', '.join((FP32, BF16, W8C, N8G64, W4G64))}")


def flops(config: StrataConfig, num_tokens: int) -> Flops:
    """Counts the operations of the encoder for one text of `num_tokens` tokens."""
    attention = 0
    routing = 0
    for block in plan_of(config).blocks:
        for heads, span in block.spans:
            attention += 4 * heads * block.head_width * pairs_seen(span, num_tokens)
            routing += 4 * heads * block.head_width * _blocks_scored(span, num_tokens)
    return Flops(num_tokens * sum(_matrix_flops(config)), attention, routing)


def pairs_seen(span: Span, num_tokens: int) -> int:
    """Counts the pairs of a query and a key that it sees, in a text of `num_tokens` tokens."""
    everything = num_tokens * num_tokens
    if span.kind == "full" or num_tokens < span.dense_below:
        return everything
    near = sum(_near(span, num_tokens, query) for query in range(num_tokens))
    return min(near + num_tokens * span.topk * span.block, everything)


def tasks(config: StrataConfig, num_tasks: int, *, depth: int, separate: StrataConfig) -> Tasks:
    """Counts what `num_tasks` tasks cost that share the `depth` lower layers, beside models like `separate`."""
    whole = parameters(config).total
    shared = parameters(_trunk(config, depth)).total
    per_layer = list(_matrix_flops(config))[1:]
    own = sum(per_layer[depth:])
    return Tasks(
        stored=shared + num_tasks * (whole - shared),
        separate=num_tasks * parameters(separate).total,
        compute=1 + (num_tasks - 1) * own / sum(_matrix_flops(config)),
    )


def _trunk(config: StrataConfig, depth: int) -> StrataConfig:
    layers: tuple[LayerSpec, ...] = tuple(config.layer(index) for index in range(depth))
    return replace(config, n_layers=depth, layers=layers)


def _embedding(config: StrataConfig) -> Iterator[tuple[str, int, int]]:
    """Yields scheme, rows and columns of the tables and of the matrix of the embedding."""
    plan = plan_of(config).embedding
    yield W8C, config.vocab, config.embed_dim if plan.expand else config.d_model
    if plan.expand is not None:
        yield plan.expand.scheme, plan.expand.rows, plan.expand.columns
    if plan.position is not None:
        yield W8C, config.max_pos, config.d_model
    yield W8C, config.type_vocab, config.d_model


def _vectors(block: BlockPlan, width: int) -> int:
    return sum(matrix.rows for matrix in block.matrices if matrix.bias) + 4 * width


def _matrix_flops(config: StrataConfig) -> Iterator[int]:
    """Yields the operations of the matrices for one token: those of the embedding, then those of each layer."""
    plan = plan_of(config)
    expand = plan.embedding.expand
    yield 0 if expand is None else _product_flops(expand)
    for block in plan.blocks:
        yield sum(_product_flops(matrix) for matrix in block.matrices)


def _product_flops(matrix: MatrixPlan) -> int:
    lora = matrix.lora_rank * (matrix.rows + matrix.columns)
    return 2 * (matrix.rows * matrix.columns + lora)


def _near(span: Span, num_tokens: int, query: int) -> int:
    """Counts the keys of the window around a query, and the sinks that are not in it."""
    first = max(0, query - span.window)
    end = min(num_tokens, query + span.window + 1)
    return end - first + min(span.sinks, first)


def _blocks_scored(span: Span, num_tokens: int) -> int:
    """Counts the pairs of a query and a block of keys whose bound is computed."""
    if span.kind != "topk" or num_tokens < span.dense_below:
        return 0
    return num_tokens * math.ceil(num_tokens / span.block)
